//! Signatures as fal's: ED25519 over `request_id\nuser_id\ntimestamp\nhex(sha256(body))`, in
//! headers; and the public key, as a JSON Web Key Set (RFC 7517, 8037).

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use warmq_types::ids::JobId;

/// What webhooks are signed with.
pub struct WebhookKey(SigningKey);

impl WebhookKey {
    /// The key that these 32 random bytes stand for.
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The headers of a webhook with this body. `at_s`: now, Unix s.
    pub fn headers(&self, job: JobId, user: &str, at_s: u64, body: &[u8]) -> HeaderMap {
        let (job, at) = (job.to_string(), at_s.to_string());
        let hash = hex::encode(Sha256::digest(body));
        let signed = format!("{job}\n{user}\n{at}\n{hash}");
        let signature = hex::encode(self.0.sign(signed.as_bytes()).to_bytes());
        let ours = [
            ("x-fal-webhook-request-id", job.as_str()),
            ("x-fal-webhook-user-id", user),
            ("x-fal-webhook-timestamp", &at),
            ("x-fal-webhook-signature", &signature),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in ours {
            // None of them has characters that a header cannot hold.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        headers
    }

    /// The public key as a set of one. `x` is padded, unlike RFC 8037's: fal's own sample decodes
    /// it strictly.
    pub fn public(&self) -> Value {
        let key = self.0.verifying_key();
        let id = hex::encode(&Sha256::digest(key.as_bytes())[..8]);
        json!({"keys": [{
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
            "kid": id,
            "x": URL_SAFE.encode(key.as_bytes()),
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 1: a seed and its public key.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn key() -> WebhookKey {
        WebhookKey::of_seed(&hex::decode(SEED).unwrap().try_into().unwrap())
    }

    /// Signed by OpenSSL, by Node's `crypto.sign`.
    #[test]
    fn the_signature_is_that_of_another_library() {
        let job = "01a20246-c1ed-705f-a519-4e83f0a3d2c9".parse().unwrap();
        let body = br#"{"status":"OK"}"#;
        let headers = key().headers(job, "anonymous", 1_764_111_111, body);
        let said = |name: &str| headers[name].to_str().unwrap();
        assert_eq!(said("x-fal-webhook-request-id"), job.to_string());
        assert_eq!(said("x-fal-webhook-user-id"), "anonymous");
        assert_eq!(said("x-fal-webhook-timestamp"), "1764111111");
        assert_eq!(
            said("x-fal-webhook-signature"),
            "a0e4b8f0e3c5c2cb4cf6f080aa3c297ea45d8216f67b8d0de41ad5cf12c2e7df\
             1a1fb0ae3a3ddd2f090db3cd2940a62d556ed486a0e0820f9d8390de073bcc09"
        );
        assert_eq!(said("content-type"), "application/json");
    }

    #[test]
    fn the_public_key_is_padded_base64_for_urls() {
        let keys = key().public();
        let x = keys["keys"][0]["x"].as_str().unwrap();
        assert_eq!(x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
        assert_eq!(hex::encode(URL_SAFE.decode(x).unwrap()), PUBLIC);
        assert_eq!(keys["keys"][0]["crv"], "Ed25519");
    }
}
