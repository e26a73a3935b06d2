//! TLS to the servers (`amqps://`, `rediss://`): rustls with ring. Trusted authorities are the
//! system's, or those in the PEM file that `SSL_CERT_FILE` names; verification cannot be disabled.

use std::error::Error;

/// Installs the process's crypto provider. Libraries that rely on the default would panic
/// without it, since more than one is compiled in. Later calls have no effect.
pub fn install_crypto_provider() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Returns why a server's certificate was rejected, if that caused `error`.
pub fn certificate_error(error: &(dyn Error + 'static)) -> Option<String> {
    /// Prefix of rustls' message, which client libraries pass on as text only.
    const PREFIX: &str = "invalid peer certificate: ";
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if let Some((_, reason)) = text.split_once(PREFIX) {
            return Some(reason.trim_end_matches(')').to_owned());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_certificate_error_is_found_however_deep_it_is_wrapped() {
        install_crypto_provider();
        install_crypto_provider();
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, unknown);
        let wrapped = io::Error::other(wrapped);
        assert_eq!(
            certificate_error(&wrapped).as_deref(),
            Some("UnknownIssuer")
        );
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(certificate_error(&refused), None);
    }
}
