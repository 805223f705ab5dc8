//! The name in a certificate. The certificate was verified before: its authority wrote it.

use x509_parser::parse_x509_certificate;

/// The common name of the subject; none if there is not exactly one.
pub(super) fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

#[cfg(test)]
mod tests {
    use manor_tests::vencrypt::Certificates;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::common_name;

    #[test]
    fn a_certificate_has_the_name_that_its_authority_gave_it() {
        let known = Certificates::new().unwrap();
        let der = CertificateDer::from_pem_slice(known.viewer.certificate.as_bytes()).unwrap();
        assert_eq!(common_name(&der).as_deref(), Some("viewer"));
        for cut in [0, 1, der.len() / 2, der.len() - 1] {
            assert_eq!(common_name(&der[..cut]), None, "{cut}");
        }
    }
}
