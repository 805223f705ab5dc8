//! [`Subject`]: the whole name in a certificate, as libvirt's lists of allowed names have it.

use std::fmt::Write as _;

use x509_parser::parse_x509_certificate;

/// RFC 4514, section 3, and what certtool(1) prints beside it.
const KEYWORDS: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAIL"),
];

/// `C=GB,O=Example,CN=host`: in the order of the certificate. None of what is no text.
pub(super) fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let mut text = String::new();
    for set in certificate.subject().iter_rdn() {
        for (at, attribute) in set.iter().enumerate() {
            let joint = if at > 0 { "+" } else { "," };
            let kind = attribute.attr_type().to_id_string();
            let known = KEYWORDS.iter().find(|(number, _)| *number == kind);
            let kind = known.map_or(kind.as_str(), |(_, keyword)| keyword);
            let joint = if text.is_empty() { "" } else { joint };
            let _ = write!(text, "{joint}{kind}={}", escaped(attribute.as_str().ok()?));
        }
    }
    Some(text)
}

/// RFC 4514, section 2.4.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let is_special = matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '\0')
            || (at == 0 && matches!(c, ' ' | '#'))
            || (at == last && c == ' ');
        match c {
            '\0' => text.push_str("\\00"),
            c if is_special => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text
}

/// Whether a pattern with `*` (any text) and `?` (any character) is of this text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on if this way leads nowhere: behind the last star, with one character more for it.
    let mut back = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((star, taken)) = back else { return false };
                back = Some((star, taken + 1));
                (p, t) = (star + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use manor_tests::vencrypt::Certificates;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn a_certificate_has_the_name_that_its_authority_gave_it() {
        let known = Certificates::new().unwrap();
        let der = CertificateDer::from_pem_slice(known.viewer.certificate.as_bytes()).unwrap();
        assert_eq!(subject(&der).as_deref(), Some("CN=viewer"));
        for cut in [0, 1, der.len() / 2, der.len() - 1] {
            assert_eq!(subject(&der[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn what_would_be_read_as_another_name_is_escaped() {
        assert_eq!(escaped(" a,b+c\\ "), "\\ a\\,b\\+c\\\\\\ ");
        assert_eq!(escaped("#x#\0"), "\\#x#\\00");
    }

    #[test]
    fn patterns_are_of_whole_names() {
        let name = "C=GB,O=Example,CN=ci.example";
        for yes in [name, "*", "*CN=ci.example", "C=GB,O=Example,*", "C=??,*,CN=ci*", "**"] {
            assert!(matches(yes, name), "{yes}");
        }
        for no in ["", "CN=ci.example", "C=GB", "*CN=ci", "C=?,*", "*x", "c=GB*"] {
            assert!(!matches(no, name), "{no}");
        }
        assert!(!matches(&"*a".repeat(50), &"a".repeat(40)));
        assert!(matches("", ""));
    }
}
