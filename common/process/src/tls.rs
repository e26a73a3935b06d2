//! TLS to the servers (`amqps://`, `rediss://`): rustls with ring. Trusted authorities are the
//! system's, or those in the PEM file that `SSL_CERT_FILE` names; verification cannot be disabled.

use std::error::Error;

/// Installs the process's cryptography provider. Libraries that rely on the default would panic
/// without it, since more than one is compiled in. Later calls have no effect.
pub fn prepare() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Returns why a server's certificate was rejected, if that caused `error`.
pub fn distrust(error: &(dyn Error + 'static)) -> Option<String> {
    /// Prefix of rustls' message, which client libraries pass on as text only.
    const SENTENCE: &str = "invalid peer certificate: ";
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if let Some((_, reason)) = text.split_once(SENTENCE) {
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
    fn distrust_is_found_however_deep_it_is_wrapped() {
        prepare();
        prepare();
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, unknown);
        let wrapped = io::Error::other(wrapped);
        assert_eq!(distrust(&wrapped).as_deref(), Some("UnknownIssuer"));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(distrust(&refused), None);
    }
}
