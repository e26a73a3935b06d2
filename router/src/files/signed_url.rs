//! Signed URLs of files: `…/files/<signature>/<key>`.
//!
//! The signature is `<expires>-<mac>`: for one use of one file until that time (Unix s). The MAC is
//! HMAC-SHA-256 over use, time and key, with a secret that all routers share, as base64url. Nothing
//! is stored: any router checks any signature, and none can be revoked.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use url::Url;

use super::{FileKey, now_s};

/// Maximum length of a signed URL, bytes.
const MAX_BYTES: usize = 4096;

/// Use that a signature allows. It is signed, too: a reader cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Read the file.
    Read,
    /// Write the file, in one piece.
    Write,
    /// Write the file, in parts.
    WriteParts,
    /// Upload new files of any name.
    Upload,
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteParts => "write-parts",
            Self::Upload => "upload",
        }
    }
}

/// Why a signature is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// It has another format.
    #[error("not a signed URL of a router")]
    Malformed,
    /// It is of another use, key, time or secret.
    #[error("the URL's signature does not match: use the URL unchanged")]
    Mismatch,
    /// It has expired.
    #[error("the URL has expired: fetch the job's result again, or upload the file again")]
    Expired,
}

/// A cheap handle for creating and checking signed URLs.
#[derive(Clone)]
pub struct SignedUrls {
    public_url: Arc<str>,
    mac: Arc<Hmac<Sha256>>,
}

impl SignedUrls {
    /// Returns URLs that begin with `public_url` (without a final slash), signed with `secret`.
    pub fn new(public_url: Arc<str>, secret: [u8; 32]) -> Self {
        // HMAC pads a key with zeros to the hash's block.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&secret);
        let mac = Arc::new(Hmac::new(&block.into()));
        Self { public_url, mac }
    }

    /// Returns the prefix of all URLs.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Returns a URL for reading the file until `expires_s` (Unix s).
    pub fn to_read(&self, key: &FileKey, expires_s: u64) -> String {
        let signature = self.signature(Use::Read, key, expires_s);
        format!("{}/files/{signature}/{key}", self.public_url)
    }

    /// Returns a URL for writing the whole file until `expires_s` (Unix s).
    pub fn to_write(&self, key: &FileKey, expires_s: u64) -> String {
        let signature = self.signature(Use::Write, key, expires_s);
        format!("{}/storage/upload/{signature}/{key}", self.public_url)
    }

    /// Returns the prefix of URLs for writing the file's parts until `expires_s` (Unix s).
    pub fn to_write_parts(&self, key: &FileKey, expires_s: u64) -> String {
        let signature = self.signature(Use::WriteParts, key, expires_s);
        format!("{}/storage/parts/{signature}/{key}", self.public_url)
    }

    /// Returns a signature for one use of a file before `expires_s` (Unix s).
    pub fn signature(&self, what: Use, key: &FileKey, expires_s: u64) -> String {
        self.sign(what, key.as_str(), expires_s)
    }

    /// Returns a token for uploads until `expires_s` (Unix s).
    pub fn upload_token(&self, expires_s: u64) -> String {
        self.sign(Use::Upload, "", expires_s)
    }

    /// Checks the signature for a file, and returns its remaining lifetime, s.
    pub fn check(
        &self,
        what: Use,
        key: &FileKey,
        signature: &str,
    ) -> Result<u64, InvalidSignature> {
        let now_s = now_s();
        let expires_s = self.verify(what, key.as_str(), signature, now_s)?;
        Ok(expires_s.saturating_sub(now_s))
    }

    /// Checks a token of [`SignedUrls::upload_token`].
    pub fn check_upload_token(&self, token: &str) -> Result<(), InvalidSignature> {
        self.verify(Use::Upload, "", token, now_s())?;
        Ok(())
    }

    /// Returns the file of a valid URL at `now_s` (Unix s). The signature counts, not the host:
    /// routers may have many names.
    pub(super) fn file_of(&self, text: &str, now_s: u64) -> Option<FileKey> {
        if text.len() > MAX_BYTES || !text.starts_with("http") {
            return None;
        }
        let url = Url::parse(text).ok()?;
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        let path = url.path();
        // The public URL may contain a path.
        path.match_indices("files/").find_map(|(at, files)| {
            let (signature, key) = path[at + files.len()..].split_once('/')?;
            let key = FileKey::parse(key)?;
            let checked = self.verify(Use::Read, key.as_str(), signature, now_s);
            checked.is_ok().then_some(key)
        })
    }

    fn sign(&self, what: Use, key: &str, expires_s: u64) -> String {
        let mac = self.mac(what, key, expires_s).finalize().into_bytes();
        format!("{expires_s}-{}", URL_SAFE_NO_PAD.encode(mac))
    }

    /// Checks a signature at `now_s` (Unix s), and returns its expiry.
    fn verify(
        &self,
        what: Use,
        key: &str,
        signature: &str,
        now_s: u64,
    ) -> Result<u64, InvalidSignature> {
        let malformed = InvalidSignature::Malformed;
        let (expires, mac) = signature.split_once('-').ok_or(malformed)?;
        let expires_s: u64 = expires.parse().map_err(|_| malformed)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| malformed)?;
        self.mac(what, key, expires_s)
            .verify_slice(&mac)
            .map_err(|_| InvalidSignature::Mismatch)?;
        match now_s < expires_s {
            true => Ok(expires_s),
            false => Err(InvalidSignature::Expired),
        }
    }

    /// The key is last: it alone could contain a line break.
    fn mac(&self, what: Use, key: &str, expires_s: u64) -> Hmac<Sha256> {
        let text = format!("{}\n{expires_s}\n{key}", what.name());
        Hmac::clone(&self.mac).chain_update(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a/b/1/0.png";

    fn urls(public_url: &str) -> SignedUrls {
        SignedUrls::new(public_url.into(), [7; 32])
    }

    fn ours() -> SignedUrls {
        urls("http://h")
    }

    fn with_other_secret() -> SignedUrls {
        SignedUrls::new("http://h".into(), [8; 32])
    }

    #[test]
    fn a_signature_is_valid_until_its_expiry() {
        let signature = ours().sign(Use::Read, KEY, 100);
        assert_eq!(ours().verify(Use::Read, KEY, &signature, 99), Ok(100));
        let late = ours().verify(Use::Read, KEY, &signature, 100);
        assert_eq!(late, Err(InvalidSignature::Expired));
    }

    #[test]
    fn a_signature_is_valid_for_its_use_its_key_its_time_and_its_secret_only() {
        let signature = ours().sign(Use::Read, KEY, 100);
        let mac = signature.split_once('-').unwrap().1;
        for (urls, what, key, signature) in [
            (ours(), Use::Write, KEY, signature.clone()),
            (ours(), Use::WriteParts, KEY, signature.clone()),
            (ours(), Use::Upload, KEY, signature.clone()),
            (ours(), Use::Read, "a/b/1/1.png", signature.clone()),
            (ours(), Use::Read, KEY, format!("101-{mac}")),
            (ours(), Use::Read, KEY, "100-".to_owned()),
            (ours(), Use::Read, KEY, "100-AAAA".to_owned()),
            (with_other_secret(), Use::Read, KEY, signature.clone()),
        ] {
            assert_eq!(
                urls.verify(what, key, &signature, 1),
                Err(InvalidSignature::Mismatch),
                "{what:?} {key} {signature}"
            );
        }
    }

    #[test]
    fn any_changed_character_invalidates_a_signature() {
        let signature = ours().sign(Use::Read, KEY, 1_000_000);
        for at in 0..signature.len() {
            for other in [b'0', b'A', b'_'] {
                let mut changed = signature.clone().into_bytes();
                if changed[at] == other {
                    continue;
                }
                changed[at] = other;
                let changed = String::from_utf8(changed).unwrap();
                let checked = ours().verify(Use::Read, KEY, &changed, 1);
                assert!(checked.is_err(), "{changed}");
            }
        }
    }

    #[test]
    fn other_texts_are_malformed() {
        for none in [
            "",
            "-",
            "a-b",
            "bench",
            "-1-AAAA",
            "1-ä",
            "1-A=",
            "99999999999999999999-AA",
        ] {
            let refused = ours().verify(Use::Read, KEY, none, 1);
            assert_eq!(refused, Err(InvalidSignature::Malformed), "{none}");
        }
    }

    #[test]
    fn a_signed_url_is_recognized_under_any_host() {
        let key = FileKey::parse(KEY).unwrap();
        for public_url in [
            "http://127.0.0.1:8080",
            "https://x.example/files/warmq",
            "https://x.example/files",
        ] {
            let url = urls(public_url).to_read(&key, 100);
            assert!(url.ends_with("/a/b/1/0.png"), "{url}");
            let found = urls("http://elsewhere").file_of(&url, 99);
            assert_eq!(found, Some(key.clone()), "{url}");
        }
    }

    #[test]
    fn other_urls_are_not_recognized() {
        let ours = ours();
        let key = FileKey::parse(KEY).unwrap();
        let url = ours.to_read(&key, 100);
        assert_eq!(with_other_secret().file_of(&url, 1), None);
        assert_eq!(ours.file_of(&url, 100), None, "expired");
        for text in [
            url.replace("0.png", "1.png"),
            url.replace("100-", "999-"),
            url.replace("/a/b", "/a/../a/b/../b/c"),
            url.replace("http://", "ftp://"),
            url.replace("http://", ""),
            ours.to_write(&key, 100),
            "http://h/files/a/b/1/0.png".to_owned(),
            format!("http://h/{}", "files/".repeat(1000)),
        ] {
            assert_eq!(ours.file_of(&text, 1), None, "{text}");
        }
    }
}
