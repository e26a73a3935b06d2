//! TLS to the servers (`amqps://`, `rediss://`): rustls with ring. Who is trusted stands in the system's store of
//! authorities, or instead in the PEM file that `SSL_CERT_FILE` names; there is no way not to check.

use std::error::Error;

/// Chooses the cryptography of every TLS connection of this process. Libraries that leave the choice to the process would
/// panic without it, since more than one is compiled in. Later calls do nothing.
pub fn prepare() {
    // An error says that somebody chose before us.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Why a server's certificate was not accepted, if that is what went wrong.
pub fn distrust(error: &(dyn Error + 'static)) -> Option<String> {
    /// How rustls begins that sentence, which client libraries pass on as text only.
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
