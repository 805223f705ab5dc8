//! Filters: rules of what may come through the interfaces that name them.

use std::sync::Arc;

use xml::FilterDef;

use crate::auth::{Access, Defines, Subject};
use crate::domain::actor::blocking;
use crate::error::Error;
use crate::filters::{FilterName, FilterView};
use crate::manager::{Context, Operation};
use crate::registry::Node;
use crate::translate::invalid;

/// The filters that an interface can name (virConnectListAllNWFilters).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFilters;

impl Operation for ListFilters {
    type Output = Vec<FilterView>;
    const NAME: &'static str = "network.filters";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<FilterView>, Error> {
        Ok(cx.node.filters.views())
    }
}

/// One of them (virNWFilterGetXMLDesc).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeFilter {
    pub filter: FilterName,
}

impl Operation for DescribeFilter {
    type Output = FilterView;
    const NAME: &'static str = "network.filter";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        about(&self.filter)
    }

    async fn run(self, cx: &Context) -> Result<FilterView, Error> {
        cx.node.filters.view(&self.filter)
    }
}

/// Store the definition of a filter (virNWFilterDefineXML). Where it is in force already, its new rules are
/// when this returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineFilter {
    /// libvirt filter XML.
    pub xml: String,
}

impl Operation for DefineFilter {
    type Output = FilterView;
    const NAME: &'static str = "network.define-filter";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Definition(Defines::Filter, &self.xml)
    }

    async fn run(self, cx: &Context) -> Result<FilterView, Error> {
        let def = FilterDef::parse(&self.xml).map_err(invalid)?.value;
        let node = cx.node.clone();
        blocking(move || define_filter(&node, def)).await
    }
}

/// Blocks.
pub(crate) fn define_filter(node: &Node, def: FilterDef) -> Result<FilterView, Error> {
    node.filters.define(def, &|library, keep| node.networks.refilter(library, keep))
}

/// Forget a filter that no interface has (virNWFilterUndefine).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndefineFilter {
    pub filter: FilterName,
}

impl Operation for UndefineFilter {
    type Output = ();
    const NAME: &'static str = "network.undefine-filter";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.filter)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let node: Arc<Node> = cx.node.clone();
        blocking(move || {
            let user = |is_it: &dyn Fn(&str) -> bool| node.domain_with_filter(is_it);
            node.filters.undefine(&self.filter, &user, &|library, keep| {
                node.networks.refilter(library, keep)
            })
        })
        .await
    }
}

fn about(filter: &FilterName) -> Subject<'_> {
    Subject::Other("filter", filter.0.as_str().into())
}
