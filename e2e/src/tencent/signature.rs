//! TC3-HMAC-SHA256: signing a request, and checking that one was signed.

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::error::ApiError;

/// By how much a client's clock may differ.
const VALIDITY: u64 = 300;
const ALGORITHM: &str = "TC3-HMAC-SHA256";

/// What is signed besides the key.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Such as `clb`.
    pub service: &'a str,
    /// Unix seconds.
    pub timestamp: u64,
    /// Names in lower case and values, ordered by name.
    pub headers: &'a [(&'a str, &'a str)],
    /// As sent.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The signature by this secret key, in hexadecimal.
    #[must_use]
    pub fn signature(&self, secret_key: &str) -> String {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim().to_lowercase())).collect();
        let canonical = format!("POST\n/\n\n{headers}\n{}\n{}", names.join(";"), hex(&Sha256::digest(self.body)));
        let (date, service) = (date(self.timestamp), self.service);
        let text = format!(
            "{ALGORITHM}\n{}\n{date}/{service}/tc3_request\n{}",
            self.timestamp,
            hex(&Sha256::digest(canonical.as_bytes()))
        );
        let mut key = format!("TC3{secret_key}").into_bytes();
        for part in [date.as_str(), service, "tc3_request"] {
            key = hmac(&key, part.as_bytes()).to_vec();
        }
        hex(&hmac(&key, text.as_bytes()))
    }

    /// The value of the header `Authorization`.
    #[must_use]
    pub fn authorization(&self, secret_id: &str, secret_key: &str) -> String {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        format!(
            "{ALGORITHM} Credential={secret_id}/{}/{}/tc3_request, SignedHeaders={}, Signature={}",
            date(self.timestamp),
            self.service,
            names.join(";"),
            self.signature(secret_key)
        )
    }
}

/// Checks a request to `clb`; gives the SecretId that it was signed by.
pub(super) fn verify(
    headers: &HeaderMap,
    body: &[u8],
    keys: &[(String, String)],
    now: u64,
) -> Result<String, ApiError> {
    let failure = |message: &str| ApiError::new("AuthFailure.SignatureFailure", message);
    let malformed = |message: &str| ApiError::new("AuthFailure.InvalidAuthorization", message);
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());

    let authorization = header("authorization").ok_or_else(|| malformed("the header Authorization is missing"))?;
    let fields =
        authorization.strip_prefix(ALGORITHM).ok_or_else(|| malformed("the algorithm is not TC3-HMAC-SHA256"))?;
    let field = |name: &str| {
        let mut all = fields.split(',').filter_map(|f| f.trim().split_once('='));
        all.find(|(n, _)| *n == name).map(|(_, value)| value)
    };
    let credential = field("Credential").ok_or_else(|| malformed("Credential is missing"))?;
    let signed = field("SignedHeaders").ok_or_else(|| malformed("SignedHeaders is missing"))?;
    let signature = field("Signature").ok_or_else(|| malformed("Signature is missing"))?;
    let timestamp: u64 =
        header("x-tc-timestamp").and_then(|t| t.parse().ok()).ok_or_else(|| ApiError::missing("X-TC-Timestamp"))?;

    let (id, scope) = credential.split_once('/').ok_or_else(|| malformed("Credential has no scope"))?;
    let (_, key) = keys
        .iter()
        .find(|(known, _)| known == id)
        .ok_or_else(|| ApiError::new("AuthFailure.SecretIdNotFound", "the SecretId is not found"))?;
    if timestamp.abs_diff(now) > VALIDITY {
        return Err(ApiError::new(
            "AuthFailure.SignatureExpire",
            format!("the request is of {timestamp}, now is {now}"),
        ));
    }
    if scope != format!("{}/clb/tc3_request", date(timestamp)) {
        return Err(failure("the credential's scope is not that of this day and service"));
    }
    let names: Vec<&str> = signed.split(';').collect();
    if !names.contains(&"content-type") || !names.contains(&"host") || !names.is_sorted() {
        return Err(failure("SignedHeaders are not in order, or are without content-type and host"));
    }
    let mut values = Vec::new();
    for name in names {
        values.push((name, header(name).ok_or_else(|| failure("a signed header is missing"))?));
    }
    // In this mode a client need not hash a body that it streams.
    let unsigned = header("x-tc-content-sha256") == Some("UNSIGNED-PAYLOAD");
    let body: &[u8] = if unsigned { b"UNSIGNED-PAYLOAD" } else { body };
    let request = Request { service: "clb", timestamp, headers: &values, body };
    if request.signature(key) != signature {
        return Err(failure("the signature is not that of the request"));
    }
    Ok(id.to_owned())
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn date(unix: u64) -> String {
    let (year, month, day) = super::clock::civil(unix);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of the vendor's documentation.
    #[test]
    fn documented_example() {
        let body = br#"{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}"#;
        let headers = [("content-type", "application/json; charset=utf-8"), ("host", "cvm.tencentcloudapi.com")];
        let request = Request { service: "cvm", timestamp: 1_551_113_065, headers: &headers, body };
        let signature = request.signature("Gu5t9xGARNpq86cd98joQYCN3EXAMPLE");
        assert_eq!(signature, "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168");
    }

    /// The second case of RFC 4231, and the one whose key is longer than a block.
    #[test]
    fn hmac_of_the_rfc() {
        let short = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&short), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(&long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn days() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_551_113_065), "2019-02-25");
    }
}
