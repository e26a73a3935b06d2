//! Creates links to files, and recognizes them.

use std::sync::Arc;

use url::Url;
use warmq_types::job::JobRecord;

use super::permit::{InvalidPermit, Signer, Use};
use super::{FileKey, now_s};

/// Default lifetime of links to a job's files after its end, s.
const DEFAULT_LIFETIME_S: u64 = 24 * 3600;

/// Links to the files of a job that has not ended expire at a full hour, so that repeated requests
/// return the same link.
const ROUND_S: u64 = 3600;

/// Maximum length of a link, bytes.
const MAX_BYTES: usize = 4096;

/// A cheap handle for creating and checking links.
#[derive(Clone)]
pub struct Links {
    public_url: Arc<str>,
    signer: Arc<Signer>,
}

impl Links {
    /// Returns links that begin with `public_url` (without a final slash), signed with `secret`.
    pub fn new(public_url: Arc<str>, secret: [u8; 32]) -> Self {
        Self {
            public_url,
            signer: Arc::new(Signer::new(secret)),
        }
    }

    /// Returns the prefix of all links.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Returns a link for reading the file until `expires_s` (Unix s).
    pub fn to_read(&self, key: &FileKey, expires_s: u64) -> String {
        let permit = self.permit(Use::Read, key, expires_s);
        format!("{}/files/{permit}/{key}", self.public_url)
    }

    /// Returns a link for writing the whole file until `expires_s` (Unix s).
    pub fn to_write(&self, key: &FileKey, expires_s: u64) -> String {
        let permit = self.permit(Use::Write, key, expires_s);
        format!("{}/storage/upload/{permit}/{key}", self.public_url)
    }

    /// Returns the prefix of links for writing the file's parts until `expires_s` (Unix s).
    pub fn to_write_parts(&self, key: &FileKey, expires_s: u64) -> String {
        let permit = self.permit(Use::WriteParts, key, expires_s);
        format!("{}/storage/parts/{permit}/{key}", self.public_url)
    }

    /// Returns a permit for one use of a file until `expires_s` (Unix s).
    pub fn permit(&self, what: Use, key: &FileKey, expires_s: u64) -> String {
        self.signer.permit(what, key.as_str(), expires_s)
    }

    /// Returns a token for uploads until `expires_s` (Unix s).
    pub fn upload_token(&self, expires_s: u64) -> String {
        self.signer.permit(Use::Upload, "", expires_s)
    }

    /// Checks a permit for a file, and returns its remaining lifetime, s.
    pub fn check(&self, what: Use, key: &FileKey, permit: &str) -> Result<u64, InvalidPermit> {
        let now_s = now_s();
        let expires_s = self.signer.check(what, key.as_str(), permit, now_s)?;
        Ok(expires_s.saturating_sub(now_s))
    }

    /// Checks a token of [`Links::upload_token`].
    pub fn check_upload_token(&self, token: &str) -> Result<(), InvalidPermit> {
        self.signer.check(Use::Upload, "", token, now_s())?;
        Ok(())
    }

    /// Returns the file of a valid link at `now_s` (Unix s). The signature counts, not the host:
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
            let (permit, key) = path[at + files.len()..].split_once('/')?;
            let key = FileKey::parse(key)?;
            let checked = self.signer.check(Use::Read, key.as_str(), permit, now_s);
            checked.is_ok().then_some(key)
        })
    }
}

/// Returns the expiry of links to a job's files, Unix s: that of its result, or as its submitter
/// requested. Constant after the job's end, so that caches recognize the links.
pub fn expires_s(record: &JobRecord) -> u64 {
    let spec = &record.spec;
    let lifetime_s = spec.links_s.or(spec.retention_s);
    let from_s = match record.finished_ms {
        Some(finished_ms) => finished_ms.div_ceil(1000),
        None => now_s().next_multiple_of(ROUND_S),
    };
    from_s.saturating_add(lifetime_s.unwrap_or(DEFAULT_LIFETIME_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(url: &str) -> Links {
        Links::new(url.into(), [7; 32])
    }

    #[test]
    fn a_link_is_recognized_under_any_host() {
        let key = FileKey::parse("a/b/1/0.png").unwrap();
        for url in [
            "http://127.0.0.1:8080",
            "https://x.example/files/warmq",
            "https://x.example/files",
        ] {
            let link = links(url).to_read(&key, 100);
            assert!(link.ends_with("/a/b/1/0.png"), "{link}");
            let found = links("http://elsewhere").file_of(&link, 99);
            assert_eq!(found, Some(key.clone()), "{link}");
        }
    }

    #[test]
    fn other_links_are_not_recognized() {
        let ours = links("http://h");
        let key = FileKey::parse("a/b/1/0.png").unwrap();
        let link = ours.to_read(&key, 100);
        let other_secret = Links::new("http://h".into(), [8; 32]);
        assert_eq!(other_secret.file_of(&link, 1), None);
        assert_eq!(ours.file_of(&link, 100), None, "expired");
        for text in [
            link.replace("0.png", "1.png"),
            link.replace("100-", "999-"),
            link.replace("/a/b", "/a/../a/b/../b/c"),
            link.replace("http://", "ftp://"),
            link.replace("http://", ""),
            ours.to_write(&key, 100),
            "http://h/files/a/b/1/0.png".to_owned(),
            format!("http://h/{}", "files/".repeat(1000)),
        ] {
            assert_eq!(ours.file_of(&text, 1), None, "{text}");
        }
    }
}
