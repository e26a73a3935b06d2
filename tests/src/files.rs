//! Files of a system's router: uploads and downloads as in fal's JavaScript client, and signatures.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, StatusCode};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use sha2::Sha256;
use warmq_store::Secret;

use crate::{HttpResponse, System};

/// Seconds since 1970, `ahead` of now.
pub fn unix_s(ahead: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now + ahead).as_secs()
}

/// Puts a file in the place of the folder of a storage, so that writes fail.
///
/// The two change places in one step: the storage's users may write meanwhile, and a folder
/// that is being emptied would not stay empty.
pub fn break_storage(folder: &Path) {
    std::fs::write(aside(folder), "no folder").unwrap();
    exchange(&aside(folder), folder);
}

/// Puts the folder back.
pub fn mend_storage(folder: &Path) {
    exchange(&aside(folder), folder);
}

fn aside(folder: &Path) -> PathBuf {
    folder.with_extension("aside")
}

fn exchange(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

impl System {
    /// Initiates an upload; the response has its `upload_url` and `file_url`.
    pub async fn initiate_upload(
        &self,
        name: &str,
        content_type: &str,
        lifecycle: &str,
    ) -> HttpResponse {
        let body = json!({"file_name": name, "content_type": content_type}).to_string();
        let headers = [("x-fal-object-lifecycle", lifecycle)];
        let path = "/storage/upload/initiate?storage_type=fal-cdn-v3";
        self.http(Method::POST, path, &headers, body).await
    }

    /// Uploads a file, and returns its signed URL.
    pub async fn upload(&self, name: &str, content_type: &str, body: &[u8]) -> String {
        let announced = self.initiate_upload(name, content_type, "{}").await;
        assert_eq!(announced.status, StatusCode::OK, "{:?}", announced.body);
        let place = self.path_of(announced.body["upload_url"].as_str().unwrap());
        let put = self.http(Method::PUT, place, &[], body.to_vec()).await;
        assert_eq!(put.status, StatusCode::OK, "{:?}", put.body);
        announced.body["file_url"].as_str().unwrap().to_owned()
    }

    /// Returns the part of a URL after the router's address.
    pub fn path_of<'a>(&self, url: &'a str) -> &'a str {
        url.strip_prefix(self.router.url()).unwrap()
    }

    /// Fetches a URL of the router.
    pub async fn fetch(&self, url: &str) -> HttpResponse {
        self.get(self.path_of(url)).await
    }

    /// Signs with the routers' secret: for `what` (`read`, `write`, …) of the file at
    /// `key`, until `expires_s`.
    pub async fn signature(&self, what: &str, key: &str, expires_s: u64) -> String {
        let secret = self
            .testbed
            .store()
            .secrets()
            .secret(Secret::SignedUrls, [0; 32])
            .await;
        let mac = Hmac::<Sha256>::new_from_slice(&secret.unwrap())
            .unwrap()
            .chain_update(format!("{what}\n{expires_s}\n{key}"))
            .finalize();
        let mac = URL_SAFE_NO_PAD.encode(mac.into_bytes());
        format!("{expires_s}-{mac}")
    }
}
