//! Elements as types. One declaration says what an element holds; from it come the type, its reader, its writer, and
//! the list of valid names, so these can never disagree.
//!
//! ```text
//! element! {
//!     pub struct Timer {
//!         attr name: TimerName,                              // required attribute name='…'
//!         attr("tickpolicy") tick_policy: Option<TickPolicy>,
//!         child("catchup") catch_up: Option<CatchUp>,        // Vec<_> for many, bool for mere presence
//!         leaf("mtu" "size") mtu: Option<u32>,               // <mtu size='…'/>: a child that is one attribute
//!         section devices: Devices,                          // a child whose absence means the same as its emptiness
//!         text value: u64,                                   // the element's own text
//!     }
//!     refuse ["snapshot", "@format"];                        // libvirt's names that the type does not hold
//!     check Timer::check;                                    // fn(&Self, Cursor): what the parts must be together
//! }
//! ```
//! Fields are written in the order declared, which is libvirt's.

use crate::cursor::{Cursor, Slot, trim};
use crate::value::Value;
use crate::write::{Tag, Writer};

pub(crate) trait Element: Sized {
    /// `None` after reporting why.
    fn read(at: Cursor<'_>) -> Option<Self>;
    fn write(&self, name: &'static str, out: &mut Writer);
}

/// A field that is an attribute: `V` if required, `Option<V>` if not.
pub(crate) trait Attribute: Sized {
    fn read(at: Cursor<'_>, name: &'static str) -> Option<Self>;
    fn write(&self, name: &str, tag: &mut Tag<'_>);
}

/// A field that is a child: `E` if required, `Option<E>`, `Vec<E>`, or `bool` for presence.
pub(crate) trait Child: Sized {
    const MANY: bool = false;
    fn read(at: Cursor<'_>, name: &'static str) -> Option<Self>;
    fn write(&self, name: &'static str, out: &mut Writer);
}

/// A field that is the only attribute of a child.
pub(crate) trait Leaf: Sized {
    const MANY: bool = false;
    fn read(at: Cursor<'_>, name: &'static str, attribute: &'static str) -> Option<Self>;
    fn write(&self, name: &'static str, attribute: &str, out: &mut Writer);
}

/// A field that is the element's text.
pub(crate) trait Text: Sized {
    fn read(at: Cursor<'_>) -> Option<Self>;
    fn print(&self) -> Option<String>;
}

impl<V: Value> Attribute for V {
    fn read(at: Cursor<'_>, name: &'static str) -> Option<Self> {
        let Some(text) = at.attribute(name) else {
            at.missing_attribute(name);
            return None;
        };
        at.value(text, Some(name))
    }
    fn write(&self, name: &str, tag: &mut Tag<'_>) {
        tag.attribute(name, &self.print());
    }
}

impl<V: Value> Attribute for Option<V> {
    fn read(at: Cursor<'_>, name: &'static str) -> Option<Self> {
        match at.attribute(name) {
            None => Some(None),
            Some(text) => at.value(text, Some(name)).map(Some),
        }
    }
    fn write(&self, name: &str, tag: &mut Tag<'_>) {
        if let Some(value) = self {
            tag.attribute(name, &value.print());
        }
    }
}

/// An element that is nothing but its text.
impl<V: Value> Element for V {
    fn read(at: Cursor<'_>) -> Option<Self> {
        at.expect(&[Slot::Text], &[]);
        at.text_value()
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        out.tag(name).text(&self.print());
    }
}

impl<E: Element> Child for E {
    fn read(at: Cursor<'_>, name: &'static str) -> Option<Self> {
        let Some(child) = at.child(name) else {
            at.missing_child(name);
            return None;
        };
        E::read(child)
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        Element::write(self, name, out);
    }
}

impl<E: Element> Child for Option<E> {
    fn read(at: Cursor<'_>, name: &'static str) -> Option<Self> {
        match at.child(name) {
            None => Some(None),
            Some(child) => E::read(child).map(Some),
        }
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        if let Some(child) = self {
            Element::write(child, name, out);
        }
    }
}

impl<E: Element> Child for Vec<E> {
    const MANY: bool = true;
    fn read(at: Cursor<'_>, name: &'static str) -> Option<Self> {
        all(at, at.children(name).map(E::read))
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        for child in self {
            Element::write(child, name, out);
        }
    }
}

impl Child for bool {
    fn read(at: Cursor<'_>, name: &'static str) -> Option<Self> {
        let child = at.child(name);
        if let Some(child) = child {
            child.expect(&[], &[]);
        }
        Some(child.is_some())
    }
    fn write(&self, name: &'static str, out: &mut Writer) {
        if *self {
            out.tag(name).empty();
        }
    }
}

/// Longer lists are not kept of a document that is refused already.
const SHORT: usize = 256;

/// All of them, or none. Those behind a bad one are read as well, so that what is wrong with them is reported,
/// but nothing is kept any more of a list that nobody will see.
fn all<E>(at: Cursor<'_>, children: impl Iterator<Item = Option<E>>) -> Option<Vec<E>> {
    let mut all = Some(Vec::new());
    for child in children {
        let kept = all.take_if(|all| all.len() < SHORT || !at.is_refused());
        all = kept.zip(child).map(|(mut kept, child)| {
            kept.push(child);
            kept
        });
    }
    all
}

fn read_leaf<V: Value>(at: Cursor<'_>, attribute: &'static str) -> Option<V> {
    at.expect(&[Slot::Attribute(attribute)], &[]);
    <V as Attribute>::read(at, attribute)
}

fn write_leaf<V: Value>(value: &V, name: &'static str, attribute: &str, out: &mut Writer) {
    let mut tag = out.tag(name);
    tag.attribute(attribute, &value.print());
    tag.empty();
}

impl<V: Value> Leaf for Option<V> {
    fn read(at: Cursor<'_>, name: &'static str, attribute: &'static str) -> Option<Self> {
        match at.child(name) {
            None => Some(None),
            Some(child) => read_leaf(child, attribute).map(Some),
        }
    }
    fn write(&self, name: &'static str, attribute: &str, out: &mut Writer) {
        if let Some(value) = self {
            write_leaf(value, name, attribute, out);
        }
    }
}

impl<V: Value> Leaf for Vec<V> {
    const MANY: bool = true;
    fn read(at: Cursor<'_>, name: &'static str, attribute: &'static str) -> Option<Self> {
        all(at, at.children(name).map(|child| read_leaf(child, attribute)))
    }
    fn write(&self, name: &'static str, attribute: &str, out: &mut Writer) {
        for value in self {
            write_leaf(value, name, attribute, out);
        }
    }
}

impl<V: Value> Text for V {
    fn read(at: Cursor<'_>) -> Option<Self> {
        if trim(&at.text()).is_empty() {
            at.missing_text();
            return None;
        }
        at.text_value()
    }
    fn print(&self) -> Option<String> {
        Some(Value::print(self).into_owned())
    }
}

impl<V: Value> Text for Option<V> {
    fn read(at: Cursor<'_>) -> Option<Self> {
        if trim(&at.text()).is_empty() { Some(None) } else { at.text_value().map(Some) }
    }
    fn print(&self) -> Option<String> {
        self.as_ref().map(|value| value.print().into_owned())
    }
}

macro_rules! element {
    (
        $(#[$meta:meta])*
        pub struct $type:ident {
            $( $(#[$fmeta:meta])* $kind:ident $(($($name:literal)+))? $field:ident : $ftype:ty ),* $(,)?
        }
        $(refuse [$($refused:literal),* $(,)?];)?
        $(check $check:path;)?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $type { $( $(#[$fmeta])* pub $field: $ftype ),* }

        impl $crate::element::Element for $type {
            fn read(at: $crate::cursor::Cursor<'_>) -> Option<Self> {
                at.expect(
                    &[$( $crate::element::slot!($kind $ftype, $field $(, $($name)+)?) ),*],
                    &[$($($refused),*)?],
                );
                $( let $field = $crate::element::read!(at $kind $ftype, $field $(, $($name)+)?); )*
                let element = Self { $( $field: $field? ),* };
                $( $check(&element, at); )?
                Some(element)
            }

            fn write(&self, name: &'static str, out: &mut $crate::write::Writer) {
                #[allow(unused_mut)]
                let mut tag = out.tag(name);
                #[allow(unused_mut, unused_assignments)]
                let mut text: Option<String> = None;
                $( $crate::element::write_start!(self tag text $kind $field $(, $($name)+)?); )*
                match text {
                    Some(text) => tag.text(&text),
                    None => tag.children(|out| {
                        let _ = &out;
                        $( $crate::element::write_child!(self out $kind $field $(, $($name)+)?); )*
                    }),
                }
            }
        }
    };
}

macro_rules! slot {
    (attr $type:ty, $field:ident) => { $crate::cursor::Slot::Attribute(stringify!($field)) };
    (attr $type:ty, $field:ident, $name:literal) => { $crate::cursor::Slot::Attribute($name) };
    (child $type:ty, $field:ident) => { $crate::element::slot!(child $type, $field, (stringify!($field))) };
    (child $type:ty, $field:ident, $name:tt) => {
        $crate::cursor::Slot::Child { name: $name, many: <$type as $crate::element::Child>::MANY }
    };
    (section $type:ty, $field:ident) => {
        $crate::cursor::Slot::Child { name: stringify!($field), many: false }
    };
    (leaf $type:ty, $field:ident, $name:literal $attribute:literal) => {
        $crate::cursor::Slot::Child { name: $name, many: <$type as $crate::element::Leaf>::MANY }
    };
    (text $type:ty, $field:ident) => { $crate::cursor::Slot::Text };
}

macro_rules! read {
    ($at:ident attr $type:ty, $field:ident) => {
        <$type as $crate::element::Attribute>::read($at, stringify!($field))
    };
    ($at:ident attr $type:ty, $field:ident, $name:literal) => {
        <$type as $crate::element::Attribute>::read($at, $name)
    };
    ($at:ident child $type:ty, $field:ident) => {
        <$type as $crate::element::Child>::read($at, stringify!($field))
    };
    ($at:ident child $type:ty, $field:ident, $name:literal) => {
        <$type as $crate::element::Child>::read($at, $name)
    };
    ($at:ident section $type:ty, $field:ident) => {
        <Option<$type> as $crate::element::Child>::read($at, stringify!($field))
            .map(Option::unwrap_or_default)
    };
    ($at:ident leaf $type:ty, $field:ident, $name:literal $attribute:literal) => {
        <$type as $crate::element::Leaf>::read($at, $name, $attribute)
    };
    ($at:ident text $type:ty, $field:ident) => {
        <$type as $crate::element::Text>::read($at)
    };
}

macro_rules! write_start {
    ($self:ident $tag:ident $text:ident attr $field:ident) => {
        $crate::element::Attribute::write(&$self.$field, stringify!($field), &mut $tag)
    };
    ($self:ident $tag:ident $text:ident attr $field:ident, $name:literal) => {
        $crate::element::Attribute::write(&$self.$field, $name, &mut $tag)
    };
    ($self:ident $tag:ident $text:ident text $field:ident) => {
        $text = $crate::element::Text::print(&$self.$field)
    };
    ($self:ident $tag:ident $text:ident $kind:ident $field:ident $(, $($name:literal)+)?) => {};
}

macro_rules! write_child {
    ($self:ident $out:ident child $field:ident) => {
        $crate::element::Child::write(&$self.$field, stringify!($field), $out)
    };
    ($self:ident $out:ident child $field:ident, $name:literal) => {
        $crate::element::Child::write(&$self.$field, $name, $out)
    };
    ($self:ident $out:ident section $field:ident) => {
        $crate::element::Child::write(&$self.$field, stringify!($field), $out)
    };
    ($self:ident $out:ident leaf $field:ident, $name:literal $attribute:literal) => {
        $crate::element::Leaf::write(&$self.$field, $name, $attribute, $out)
    };
    ($self:ident $out:ident $kind:ident $field:ident $(, $($name:literal)+)?) => {};
}

/// An element whose form one of its attributes decides.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $type:ident by $attribute:literal {
            $( $(#[$vmeta:meta])* $variant:ident($inner:ty) = $name:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $type { $( $(#[$vmeta])* $variant($inner) ),+ }

        impl $type {
            pub fn name(&self) -> &'static str {
                match self { $( Self::$variant(_) => $name ),+ }
            }
        }

        impl $crate::element::Element for $type {
            fn read(at: $crate::cursor::Cursor<'_>) -> Option<Self> {
                let Some(choice) = at.attribute($attribute) else {
                    at.missing_attribute($attribute);
                    return None;
                };
                let inside = at.chosen_by($attribute);
                match choice {
                    $( $name => <$inner as $crate::element::Element>::read(inside).map(Self::$variant), )+
                    _ => {
                        let mut report = at.at_attribute($attribute);
                        let names = [$($name),+];
                        report.one_of(choice, &names);
                        let message = format!(
                            "{}={} is not a value libvirt knows", $attribute, $crate::report::quote(choice),
                        );
                        report.report($crate::diagnostic::Kind::Invalid, message);
                        None
                    }
                }
            }

            fn write(&self, name: &'static str, out: &mut $crate::write::Writer) {
                out.choose($attribute, self.name());
                match self { $( Self::$variant(inner) => $crate::element::Element::write(inner, name, out) ),+ }
            }
        }
    };
}

pub(crate) use {choice, element, read, slot, write_child, write_start};
