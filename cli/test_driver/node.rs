//! What a daemon of the test driver begins with: one running guest, its network and a pool; or what a
//! file says, as that of libvirt's test driver does.
//!
//! ```xml
//! <node>
//!   <network file='lab.xml'/>
//!   <pool type='dir'>…</pool>
//!   <domain type='kvm'>…</domain>
//! </node>
//! ```

use std::path::Path;

use management::ops::{
    ChangeNetwork, ChangePool, CreateVolume, DefineDomain, DefineNetwork, DefinePool,
    NetworkAction, PoolAction, StartDomain,
};
use management::{Access, Caller, Error, Manager};

use crate::failure::{Failure, reason};

const DOMAIN: &str = include_str!("../../resources/test/domain.xml");
/// Every host has it from the beginning.
const NETWORK: &str = "default";
const POOL: &str = "default-pool";
/// The disk of the usual domain.
const VOLUME: &str = "<volume><name>test.qcow2</name><capacity unit='GiB'>10</capacity>\
                      <target><format type='qcow2'/></target></volume>";
const POOL_UUID: &str = "dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566";
/// virt-install looks for one of this name, and makes it of a directory of the host if there is none.
const INSTALLERS: &str = "default";
const INSTALLERS_UUID: &str = "3f0d9c5a-7d0e-5b6f-8c1d-2a4e6b8d0f12";
/// Of a file that is read.
const LONGEST: u64 = 16 << 20;

/// Definitions, all of which are active at the beginning.
#[derive(Debug)]
pub(super) struct Node {
    networks: Vec<String>,
    pools: Vec<String>,
    domains: Vec<String>,
    /// The network and the pool that are always there.
    usual: bool,
}

impl Default for Node {
    fn default() -> Self {
        let (networks, pools) = (Vec::new(), Vec::new());
        Self { networks, pools, domains: vec![DOMAIN.to_owned()], usual: true }
    }
}

impl Node {
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let text = read(file)?;
        let wrong = |why: String| Failure::other(format!("{}: {why}", file.display()));
        let document =
            roxmltree::Document::parse(&text).map_err(|error| wrong(error.to_string()))?;
        let root = document.root_element();
        if !root.has_tag_name("node") {
            return Err(wrong(format!("it is <{}>, and not <node>", root.tag_name().name())));
        }
        let (networks, pools, domains) = (Vec::new(), Vec::new(), Vec::new());
        let mut node = Self { networks, pools, domains, usual: false };
        for child in root.children().filter(roxmltree::Node::is_element) {
            let list = match child.tag_name().name() {
                "network" => &mut node.networks,
                "pool" => &mut node.pools,
                "domain" => &mut node.domains,
                other => {
                    let text = format!("<{other}> is none of <domain>, <network> and <pool>");
                    return Err(wrong(text));
                }
            };
            list.push(match child.attribute("file") {
                Some(name) => read(&file.parent().unwrap_or(Path::new("")).join(name))?,
                None => text[child.range()].to_owned(),
            });
        }
        Ok(node)
    }

    /// Define and start all of it. The usual pools lie in `images`.
    pub(super) async fn populate(&self, manager: &Manager, images: &Path) -> Result<(), Failure> {
        self.make(manager, images).await.map_err(|error| {
            Failure::other(error.chain())
                .while_doing("what there is to be at the beginning cannot be")
        })
    }

    async fn make(&self, manager: &Manager, images: &Path) -> Result<(), Error> {
        let caller = Caller::new("the test driver", Access::Admin);
        let start =
            |name: &str| ChangeNetwork { network: name.into(), action: NetworkAction::Start };
        if self.usual {
            manager.call(&caller, start(NETWORK)).await?;
        }
        for xml in &self.networks {
            let view = manager.call(&caller, DefineNetwork { xml: xml.clone() }).await?;
            manager.call(&caller, start(&view.name)).await?;
        }
        let usual = [(POOL, POOL_UUID), (INSTALLERS, INSTALLERS_UUID)]
            .map(|(name, uuid)| pool(name, uuid, &images.join(name)));
        let usual = if self.usual { usual.as_slice() } else { &[] };
        for xml in usual.iter().chain(&self.pools) {
            let view = manager.call(&caller, DefinePool { xml: xml.clone() }).await?;
            let action = PoolAction::Start { build: true };
            manager.call(&caller, ChangePool { pool: view.uuid.into(), action }).await?;
        }
        if self.usual {
            let (pool, xml) = (POOL.into(), VOLUME.to_owned());
            manager.call(&caller, CreateVolume { pool, xml, from: None }).await?;
        }
        for xml in &self.domains {
            let define = DefineDomain { xml: xml.clone(), cloud_init: None, check_only: false };
            let defined = manager.call(&caller, define).await?;
            let start = StartDomain {
                domain: defined.domain.uuid.into(),
                paused: false,
                reset_variables: false,
                force_boot: false,
                force: false,
            };
            manager.call(&caller, start).await?;
        }
        Ok(())
    }
}

fn pool(name: &str, uuid: &str, place: &Path) -> String {
    let path = place.display().to_string();
    let path = path.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid>\
         <target><path>{path}</path></target></pool>"
    )
}

fn read(file: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(LONGEST).read_to_string(&mut text))
        .map_err(|error| {
            Failure::other(format!("cannot read {}: {}", file.display(), reason(&error)))
        })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Result<Node, Failure> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("lab.xml"), "<network><name>lab</name></network>")
            .unwrap();
        let file = directory.path().join("node.xml");
        std::fs::write(&file, text).unwrap();
        Node::read(&file)
    }

    #[test]
    fn a_node_has_what_stands_in_it_and_in_the_files_it_names() {
        let node = node(
            "<node><network file='lab.xml'/><domain type='test'><name>a</name></domain></node>",
        )
        .unwrap();
        assert_eq!(node.networks, ["<network><name>lab</name></network>"]);
        assert_eq!(node.domains, ["<domain type='test'><name>a</name></domain>"]);
        assert!(node.pools.is_empty() && !node.usual);
    }

    #[test]
    fn what_is_no_node_is_refused_by_name() {
        for (text, why) in [
            ("<nodes/>", "it is <nodes>, and not <node>"),
            ("<node><cpu/></node>", "<cpu> is none of"),
            ("<node><pool file='no.xml'/></node>", "no.xml"),
            ("<node>", "node.xml"),
        ] {
            let lines = node(text).unwrap_err().lines().join("\n");
            assert!(lines.contains(why), "{lines}");
        }
    }
}
