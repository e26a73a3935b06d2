//! A private authority and a certificate by it, for TLS servers on loopback.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::error::Error;
use crate::folder::Folder;

/// PEM files in a temporary folder, which is deleted with the handle.
#[derive(Debug)]
pub struct Certificates {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    _folder: Folder,
}

impl Certificates {
    /// Generates an untrusted authority, and a certificate by it for `localhost` and 127.0.0.1.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn generate() -> Result<Self, Error> {
        let (authority, certificate, key) = issue().map_err(|error| Error::Setting {
            what: "a certificate",
            reason: error.to_string(),
        })?;
        let folder = Folder::temporary()?;
        let write = |name: &str, pem: String| -> Result<PathBuf, Error> {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).map_err(Error::io(name))?;
            Ok(path)
        };
        Ok(Self {
            authority: write("authority.pem", authority)?,
            certificate: write("certificate.pem", certificate)?,
            key: write("key.pem", key)?,
            _folder: folder,
        })
    }

    /// Returns the authority's certificate, a file for `SSL_CERT_FILE`.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// Returns the server's certificate.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Returns the server's private key.
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// Lines of `rabbitmq.conf` for an additional TLS port.
    pub fn for_rabbitmq(&self, port: u16) -> [String; 5] {
        [
            format!("listeners.ssl.1 = 127.0.0.1:{port}"),
            format!("ssl_options.cacertfile = {}", self.authority.display()),
            format!("ssl_options.certfile = {}", self.certificate.display()),
            format!("ssl_options.keyfile = {}", self.key.display()),
            "ssl_options.verify = verify_none".to_owned(),
        ]
    }

    /// Settings of `redis-server` for an additional TLS port.
    pub fn for_redis(&self, port: u16) -> [(&'static str, String); 5] {
        let path = |path: &Path| path.display().to_string();
        [
            ("--tls-port", port.to_string()),
            ("--tls-ca-cert-file", path(&self.authority)),
            ("--tls-cert-file", path(&self.certificate)),
            ("--tls-key-file", path(&self.key)),
            ("--tls-auth-clients", "no".to_owned()),
        ]
    }
}

/// Returns the authority, the certificate and its key, in PEM.
fn issue() -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::default();
    // A unique name: of two authorities with one name, clients would try the wrong one.
    let name = format!("an authority of a test, {}", uuid::Uuid::new_v4());
    (authority.distinguished_name).push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut server = CertificateParams::new(names)?;
    (server.distinguished_name).push(DnType::CommonName, "a server of a test");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &authority)?;
    Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
}
