//! Permits in links: `<expires>-<signature>`, for one use of one file until that time (Unix s).
//!
//! The signature is HMAC-SHA-256 over use, time and key, with a secret that all routers share, as
//! base64url. Nothing is stored: any router checks any permit, and none can be revoked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Use that a permit allows. It is part of the signature: a reader cannot write.
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

/// Why a permit is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPermit {
    /// It has another format.
    #[error("this is not a link of a router")]
    Malformed,
    /// Its signature is of another use, key, time or secret.
    #[error("the link's signature does not match: use the link unchanged")]
    BadSignature,
    /// It has expired.
    #[error("the link has expired: fetch the job's result again, or upload the file again")]
    Expired,
}

/// Creates and checks permits.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// Returns a signer with `secret`.
    pub fn new(secret: [u8; 32]) -> Self {
        // HMAC pads a key with zeros to the hash's block.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&secret);
        Self(Hmac::new(&block.into()))
    }

    /// Returns a permit for one use of `key` before `expires_s` (Unix s).
    pub fn permit(&self, what: Use, key: &str, expires_s: u64) -> String {
        let signature = self.mac(what, key, expires_s).finalize().into_bytes();
        format!("{expires_s}-{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Checks a permit at `now_s` (Unix s), and returns its expiry.
    pub fn check(
        &self,
        what: Use,
        key: &str,
        permit: &str,
        now_s: u64,
    ) -> Result<u64, InvalidPermit> {
        let (expires, signature) = permit.split_once('-').ok_or(InvalidPermit::Malformed)?;
        let expires_s: u64 = expires.parse().map_err(|_| InvalidPermit::Malformed)?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| InvalidPermit::Malformed)?;
        self.mac(what, key, expires_s)
            .verify_slice(&signature)
            .map_err(|_| InvalidPermit::BadSignature)?;
        match now_s < expires_s {
            true => Ok(expires_s),
            false => Err(InvalidPermit::Expired),
        }
    }

    /// The key is last: it alone could contain a line break.
    fn mac(&self, what: Use, key: &str, expires_s: u64) -> Hmac<Sha256> {
        let text = format!("{}\n{expires_s}\n{key}", what.name());
        self.0.clone().chain_update(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a/b/1/0.png";

    fn signer() -> Signer {
        Signer::new([7; 32])
    }

    #[test]
    fn a_permit_is_valid_until_its_expiry() {
        let permit = signer().permit(Use::Read, KEY, 100);
        assert_eq!(signer().check(Use::Read, KEY, &permit, 99), Ok(100));
        let late = signer().check(Use::Read, KEY, &permit, 100);
        assert_eq!(late, Err(InvalidPermit::Expired));
    }

    #[test]
    fn a_permit_is_valid_for_its_use_its_key_its_time_and_its_secret_only() {
        let permit = signer().permit(Use::Read, KEY, 100);
        let signature = permit.split_once('-').unwrap().1;
        for (signer, what, key, permit) in [
            (signer(), Use::Write, KEY, permit.clone()),
            (signer(), Use::WriteParts, KEY, permit.clone()),
            (signer(), Use::Upload, KEY, permit.clone()),
            (signer(), Use::Read, "a/b/1/1.png", permit.clone()),
            (signer(), Use::Read, KEY, format!("101-{signature}")),
            (signer(), Use::Read, KEY, "100-".to_owned()),
            (signer(), Use::Read, KEY, "100-AAAA".to_owned()),
            (Signer::new([8; 32]), Use::Read, KEY, permit.clone()),
        ] {
            let refused = signer.check(what, key, &permit, 1);
            assert_eq!(
                refused,
                Err(InvalidPermit::BadSignature),
                "{what:?} {key} {permit}"
            );
        }
    }

    #[test]
    fn any_changed_character_invalidates_a_permit() {
        let permit = signer().permit(Use::Read, KEY, 1_000_000);
        for at in 0..permit.len() {
            for other in [b'0', b'A', b'_'] {
                let mut changed = permit.clone().into_bytes();
                if changed[at] == other {
                    continue;
                }
                changed[at] = other;
                let changed = String::from_utf8(changed).unwrap();
                assert!(
                    signer().check(Use::Read, KEY, &changed, 1).is_err(),
                    "{changed}"
                );
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
            let refused = signer().check(Use::Read, KEY, none, 1);
            assert_eq!(refused, Err(InvalidPermit::Malformed), "{none}");
        }
    }
}
