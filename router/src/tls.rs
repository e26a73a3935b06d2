//! Certificate and key of the router.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Configuration of HTTPS: TLS 1.2 and 1.3 with HTTP/1.1. Cheap to clone; its debug output omits
/// the key.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// A mistake in certificate or key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Name of the setting, `tls-cert` or `tls-key`.
    pub setting: &'static str,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

impl Tls {
    /// Reads PEM files: the certificate with its chain, and its private key.
    ///
    /// # Errors
    /// Returns all mistakes.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Vec<Problem>> {
        let problem = |setting, reason| vec![Problem { setting, reason }];
        let chain = chain(certificate).map_err(|reason| ("tls-cert", reason));
        let key = private_key(key).map_err(|reason| ("tls-key", reason));
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => {
                let wrong = [chain.err(), key.err()].into_iter().flatten();
                return Err(wrong
                    .map(|(setting, reason)| Problem { setting, reason })
                    .collect());
            }
        };
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| problem("tls-cert", error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => problem(
                "tls-key",
                "it does not belong to the certificate".to_owned(),
            ),
            rustls::Error::InvalidCertificate(error) => problem("tls-cert", error.to_string()),
            error => problem("tls-key", error.to_string()),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Returns the configuration of handshakes.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(chain) if chain.is_empty() => Err(none_in(path, "certificate", "CERTIFICATE")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => none_in(path, "private key without a password", "PRIVATE KEY"),
        error => unreadable(path, error),
    })
}

fn none_in(path: &Path, what: &str, label: &str) -> String {
    let path = path.display();
    format!("{path} contains no {what} (PEM: -----BEGIN {label}-----)")
}

fn unreadable(path: &Path, error: pem::Error) -> String {
    let path = path.display();
    match error {
        pem::Error::Io(error) => format!("{path} cannot be read: {error}"),
        error => format!("{path} is not a PEM file: {error:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::generate_simple_self_signed;

    /// Reads files with these contents.
    fn read(certificate: &str, key: &str) -> Result<Tls, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let (cert_file, key_file) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        std::fs::write(&cert_file, certificate).unwrap();
        std::fs::write(&key_file, key).unwrap();
        let read = Tls::read(&cert_file, &key_file);
        read.map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    fn certified() -> (String, String) {
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_valid_certificate_is_accepted_and_its_debug_output_omits_the_key() {
        let (certificate, key) = certified();
        let tls = read(&certificate, &key).unwrap();
        assert_eq!(format!("{tls:?}"), "Tls");
        assert_eq!(tls.config().alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[test]
    fn all_mistakes_in_the_files_are_reported() {
        let ((certificate, key), (_, other_key)) = (certified(), certified());
        let mistakes = |certificate: &str, key: &str| read(certificate, key).unwrap_err();
        let swapped = mistakes(&key, &certificate);
        assert!(swapped[0].starts_with("tls-cert: ") && swapped[0].contains("no certificate"));
        assert!(swapped[1].starts_with("tls-key: ") && swapped[1].contains("no private key"));
        assert_eq!(swapped.len(), 2);
        let foreign = mistakes(&certificate, &other_key);
        assert_eq!(foreign, ["tls-key: it does not belong to the certificate"]);
        let half = mistakes(&certificate[..certificate.len() / 2], &key);
        assert!(half[0].contains("is not a PEM file"), "{half:?}");
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(mistakes(garbage, &key)[0].starts_with("tls-cert: "));
        let missing = Tls::read(Path::new("/no/such.pem"), Path::new("/no/key.pem"));
        let missing = missing.unwrap_err();
        assert_eq!(missing.len(), 2);
        assert!(missing[0].reason.contains("cannot be read"), "{missing:?}");
    }
}
