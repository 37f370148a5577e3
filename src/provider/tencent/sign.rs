//! Signatures by TC3-HMAC-SHA256 (Tencent Cloud: "Signature v3").

use sha2::{Digest as _, Sha256};

/// The digest's size and the block's size of SHA-256, in bytes.
const DIGEST: usize = 32;
const BLOCK: usize = 64;

/// A key pair of a cloud account.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The SecretId.
    pub secret_id: String,
    /// The SecretKey.
    pub secret_key: String,
    /// The token of temporary credentials.
    pub token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must never reach a log.
        f.debug_struct("Credentials").field("secret_id", &self.secret_id).finish_non_exhaustive()
    }
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Such as `clb`.
    pub service: &'a str,
    /// As in the `Host` header.
    pub host: &'a str,
    /// As in the `Content-Type` header.
    pub content_type: &'a str,
    /// The body, as sent.
    pub body: &'a [u8],
    /// Unix time in seconds, as in `X-TC-Timestamp`.
    pub timestamp: i64,
}

/// The value of the `Authorization` header of a POST to `/`.
#[must_use]
pub fn authorization(request: &Request<'_>, credentials: &Credentials) -> String {
    const SIGNED: &str = "content-type;host";
    let date = date(request.timestamp);
    let scope = format!("{date}/{}/tc3_request", request.service);
    let canonical = format!(
        "POST\n/\n\ncontent-type:{}\nhost:{}\n\n{SIGNED}\n{}",
        request.content_type,
        request.host,
        hex(&Sha256::digest(request.body)),
    );
    let text =
        format!("TC3-HMAC-SHA256\n{}\n{scope}\n{}", request.timestamp, hex(&Sha256::digest(canonical.as_bytes())));
    let key = hmac(format!("TC3{}", credentials.secret_key).as_bytes(), date.as_bytes());
    let key = hmac(&key, request.service.as_bytes());
    let key = hmac(&key, b"tc3_request");
    let signature = hex(&hmac(&key, text.as_bytes()));
    format!(
        "TC3-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={SIGNED}, Signature={signature}",
        credentials.secret_id
    )
}

/// HMAC (RFC 2104) with SHA-256.
fn hmac(key: &[u8], message: &[u8]) -> [u8; DIGEST] {
    let mut block = [0u8; BLOCK];
    if key.len() > BLOCK {
        block.iter_mut().zip(Sha256::digest(key)).for_each(|(b, k)| *b = k);
    } else {
        block.iter_mut().zip(key).for_each(|(b, k)| *b = *k);
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The UTC date of a Unix time.
fn date(timestamp: i64) -> String {
    jiff::Timestamp::from_second(timestamp).map_or_else(|_| String::new(), |t| t.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 2 and 6.
    #[test]
    fn hmac_of_the_rfc() {
        assert_eq!(
            hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn a_key_never_reaches_a_log() {
        let c = Credentials { secret_id: "AKID".into(), secret_key: "hidden".into(), token: Some("hidden".into()) };
        assert!(!format!("{c:?}").contains("hidden"));
    }

    #[test]
    fn names_the_day_of_the_signature() {
        assert_eq!(date(1_551_113_065), "2019-02-25");
        let request = Request {
            service: "clb",
            host: "h",
            content_type: "application/json",
            body: b"{}",
            timestamp: 1_551_113_065,
        };
        let credentials = Credentials { secret_id: "AKID".into(), secret_key: "k".into(), token: None };
        let header = authorization(&request, &credentials);
        assert!(
            header.starts_with("TC3-HMAC-SHA256 Credential=AKID/2019-02-25/clb/tc3_request, SignedHeaders="),
            "{header}"
        );
    }
}
