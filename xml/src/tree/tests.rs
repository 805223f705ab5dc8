//! The tree is what another parser, roxmltree, says it is: of documents, and of what chance makes of them.

use std::path::Path;

use manor_tests::chance::Chance;
use manor_tests::{paths, tries::Tries};

use super::{Document, Fault, Node, parse};

fn tree(text: &str) -> Result<Document<'_>, Fault> {
    parse(text, u32::MAX).map_err(|error| {
        assert!(error.at <= text.len() && text.is_char_boundary(error.at), "{error:?}");
        error.fault
    })
}

/// One line for each element, with all that can be asked of it.
fn told(node: Node<'_>, lines: &mut Vec<String>) {
    let attributes = node.attributes().map(|a| (a.start, a.namespace, a.name, a.value));
    let attributes: Vec<_> = attributes.collect();
    let (range, namespace, text) = (node.range(), node.namespace(), node.text());
    lines.push(format!("{range:?} {namespace:?} {} {attributes:?} {text:?}", node.name()));
    node.elements().for_each(|child| told(child, lines));
}

fn told_by_the_other(node: roxmltree::Node<'_, '_>, lines: &mut Vec<String>) {
    let attributes =
        node.attributes().map(|a| (a.range().start, a.namespace(), a.name(), a.value()));
    let attributes: Vec<_> = attributes.collect();
    let text: String =
        node.children().filter(roxmltree::Node::is_text).filter_map(|n| n.text()).collect();
    let (name, range) = (node.tag_name(), node.range());
    // To it an empty default is a namespace, too.
    let namespace = name.namespace().filter(|uri| !uri.is_empty());
    lines.push(format!("{range:?} {namespace:?} {} {attributes:?} {text:?}", name.name()));
    let elements = node.children().filter(roxmltree::Node::is_element);
    elements.for_each(|child| told_by_the_other(child, lines));
}

/// False if it is no document.
fn is_the_same(text: &str) -> bool {
    let options = roxmltree::ParsingOptions { nodes_limit: u32::MAX, ..Default::default() };
    let other = roxmltree::Document::parse_with_options(text, options);
    match (tree(text), other) {
        (Ok(ours), Ok(other)) => {
            let (mut lines, mut expected) = (Vec::new(), Vec::new());
            told(ours.root_element(), &mut lines);
            told_by_the_other(other.root_element(), &mut expected);
            assert_eq!(lines, expected, "{text}");
            assert_eq!(ours.root_element().descendants().count(), lines.len());
            true
        }
        (Err(_), Err(_)) => false,
        // To it `:a` is a name, and `p:xmlns` declares a namespace.
        (Err(Fault::Name), Ok(_)) if text.contains(':') => false,
        _ if text.contains(":xmlns") => false,
        (ours, other) => panic!("{ours:?} and {other:?} of {text:?}"),
    }
}

const WRITTEN: &[&str] = &[
    "<a/>",
    "<a></a>",
    "<a b='1' c = \"2\"\n d='&lt;&#65;&#x42;'/>",
    "<?xml version='1.0' encoding=\"UTF-8\" standalone='yes' ?>\n<!-- a --><a/>\n<?b c?>",
    "<a>x<!-- c -->y<b/>z<![CDATA[<&]]>w<?p i?>v&amp;</a>",
    "<a>\r\n\r<![CDATA[\r\n\r]]>&#13;\n</a>",
    "<a b='\r\n\t\r &#9;&#10;'/>",
    "<a xmlns='u'><b/><c xmlns=''><d/></c><e xmlns='v'/></a>",
    "<p:a xmlns:p='u' p:b='1' b='2'><p:c xmlns:p='v' p:b='3'/><p:c/></p:a>",
    "<a xml:lang='de' xmlns:xml='http://www.w3.org/XML/1998/namespace'/>",
    "<größe maß='ü'>漢字＝：</größe>",
    "<a> <b>1</b> <b>2</b> <b i='3'/> </a>",
];

const WRONG: &[&str] = &[
    "",
    "a",
    "<a>",
    "</a>",
    "<a/><b/>",
    "<a></b>",
    "<a b=1/>",
    "<a b/>",
    "<a b='1'c='2'/>",
    "<a b='<'/>",
    "<a b='1' b='2'/>",
    "<a xmlns:p='u' xmlns:q='u' p:b='1' q:b='2'/>",
    "<a xmlns:p='u' xmlns:p='v'/>",
    "<p:a/>",
    "<a p:b='1'/>",
    "<a><b xmlns:p='u'/><p:c/></a>",
    "<xmlns:a/>",
    "<a xmlns='http://www.w3.org/XML/1998/namespace'/>",
    "<a xmlns:xml='u'/>",
    "<a xmlns:p='http://www.w3.org/2000/xmlns/'/>",
    "<1/>",
    "<:a/>",
    "<a:b:c xmlns:a='u'/>",
    "<a>&b;</a>",
    "<a>&</a>",
    "<a>&#0;</a>",
    "<a>&#xFFFE;</a>",
    "<a>&#99999999999;</a>",
    "<a b='&lt'/>",
    "<a>]]></a>",
    "<a>\u{1}</a>",
    "<a b='\u{ffff}'/>",
    "<a><!-- -- --></a>",
    "<a><!-- --->",
    "<a><![CDATA[</a>",
    "<a><!b></a>",
    " <?xml version='1.0'?><a/>",
    "<?xml encoding='UTF-8'?><a/>",
    "<!DOCTYPE a><a/>",
    "<a/>b",
    "<a",
    "<a b",
    "<a b=",
    "<a b='",
];

#[test]
fn what_is_written_is_what_another_parser_sees() {
    for text in WRITTEN {
        assert!(is_the_same(text), "{text}");
    }
    for text in WRONG {
        assert!(!is_the_same(text), "{text}");
    }
}

fn files(directory: &Path, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut entries: Vec<_> = entries.collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|it| it == "xml") {
            found.extend(std::fs::read_to_string(path));
        }
    }
}

/// Characters and words that mean something, so that chance finds more than dead ends.
const BITS: &[&str] = &[
    "<",
    ">",
    "/>",
    "</",
    "'",
    "\"",
    "=",
    " ",
    "&",
    ";",
    "&lt;",
    "&#10;",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?",
    "?>",
    ":",
    "xmlns:p='u'",
    "xmlns='u'",
    "xmlns=''",
    "p:",
    "<a>",
    "</a>",
    "<b/>",
    "\r\n",
    "\t",
    "ä",
    "x='1'",
];

#[test]
fn what_chance_makes_of_documents_is_what_another_parser_sees() {
    let torture = Tries::asked_or(3_000);
    let mut chance = torture.chance();
    let mut seeds: Vec<String> = WRITTEN.iter().map(|text| (*text).to_owned()).collect();
    files(&paths::workspace().join("tests/xml"), &mut seeds);
    seeds.retain(|seed| seed.len() < 8 << 10);
    assert!(seeds.len() > 40, "{} documents are too few to begin with", seeds.len());
    let bytes: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.clone().into_bytes()).collect();
    let mut documents = 0;
    for _ in 0..torture.count {
        let mut text = chance.one_of(&seeds).clone();
        for _ in 0..chance.below(6) {
            vary(&mut chance, &mut text, &bytes);
        }
        documents += usize::from(is_the_same(&text));
    }
    assert!(documents > torture.count / 8, "only {documents} were documents");
    torture.report("trees", format!("{documents} were documents"));
}

fn vary(chance: &mut Chance, text: &mut String, seeds: &[Vec<u8>]) {
    if chance.once_in(4) {
        let mut bytes = std::mem::take(text).into_bytes();
        chance.vary(&mut bytes, seeds);
        *text = String::from_utf8_lossy(&bytes).into_owned();
        return;
    }
    let mut at = chance.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let bit: &&str = chance.one_of(BITS);
    text.insert_str(at, bit);
}

#[test]
fn an_element_costs_sixteen_bytes() {
    let text = format!("<a>{}</a>", "<b/>".repeat(10_000));
    let document = tree(&text).unwrap();
    assert_eq!(size_of_val(&document.elements[0]), 16);
    assert_eq!(document.elements.capacity(), 10_001, "the list did not grow on the way");
    assert_eq!(document.root_element().elements().count(), 10_000);
}

#[test]
fn what_is_too_much_is_counted_whatever_it_is() {
    let most = |text: &str, most| parse(text, most).map(|_| ()).map_err(|error| error.fault);
    for text in ["<a><b/>c<!-- d --><?e?></a>", "<a><b/><b/><b/><b/></a>", "<a>1<b/>2<b/></a>"] {
        assert_eq!(most(text, 5), Ok(()));
        assert_eq!(most(text, 4), Err(Fault::TooManyNodes(4)));
    }
}
