//! Certificates from Secrets.

use k8s_openapi::api::core::v1::Secret;
use rustls::{
    SignatureAlgorithm,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use crate::model::{Certificate, Time};

/// Why a certificate is refused.
#[derive(Debug)]
pub(super) struct Fault {
    /// A sentence that says what is wrong and what is needed, to follow the Secret's name.
    pub(super) message: String,
    /// The certificate, where a proxy can work with it all the same (it has expired, say).
    pub(super) outdated: Option<Certificate>,
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self { message, outdated: None }
    }
}

/// The certificate and key of a Secret of type `kubernetes.io/tls`, checked: it parses, the key is the certificate's,
/// and the certificate is valid at `now`.
///
/// # Errors
/// Why it is refused.
pub(super) fn certificate(name: &str, secret: &Secret, now: Time) -> Result<Certificate, Fault> {
    let chain_pem = text(secret, "tls.crt")?;
    let key_pem = text(secret, "tls.key")?;
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("tls.crt is no PEM: {e}; it needs the certificate, followed by its chain"))?;
    let parsed = chain
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, c)| c))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("tls.crt holds something that is no X.509 certificate: {e}"))?;
    let leaf =
        parsed.first().ok_or_else(|| "tls.crt holds no certificate: it needs PEM blocks CERTIFICATE".to_string())?;

    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|_| "tls.key holds no private key: it needs one PEM block PRIVATE KEY".to_string())?;
    let allowed = "RSA of 2048 bits or more and ECDSA P-256 or P-384 are allowed";
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .map_err(|_| format!("tls.key holds a key that cannot be used: {allowed}"))?;
    if key.algorithm() == SignatureAlgorithm::ED25519 {
        // Browsers and Envoy refuse it.
        return Err(format!("tls.key holds an Ed25519 key: {allowed}").into());
    }
    let subject = || format!("the certificate of \"{}\"", leaf.subject());
    let public = key.public_key().ok_or_else(|| "tls.key holds a key without a public part".to_string())?;
    if public.as_ref() != leaf.public_key().raw {
        let message = format!("tls.key does not match tls.crt ({}): put in the key that it was made for", subject());
        return Err(message.into());
    }
    let (subject, names) = (subject(), names(leaf));
    let (from, to) = (leaf.validity().not_before, leaf.validity().not_after);
    let certificate = Certificate { secret: name.into(), chain_pem, key_pem, names };
    let seconds = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    let outdated = |message| Err(Fault { message, outdated: Some(certificate.clone()) });
    if seconds > to.timestamp() {
        return outdated(format!("{subject} expired on {to}: put in a valid one"));
    }
    if seconds < from.timestamp() {
        return outdated(format!("{subject} is not valid before {from}: put in a valid one"));
    }
    Ok(certificate)
}

fn text(secret: &Secret, key: &str) -> Result<String, String> {
    let bytes = secret.data.as_ref().and_then(|d| d.get(key)).ok_or_else(|| {
        let has: Vec<_> = secret.data.iter().flat_map(|d| d.keys().map(String::as_str)).collect();
        let has = if has.is_empty() { "nothing".into() } else { has.join(", ") };
        format!("lacks {key} (it has {has}): a Secret of type kubernetes.io/tls with tls.crt and tls.key is needed")
    })?;
    String::from_utf8(bytes.0.clone()).map_err(|_| format!("{key} is no PEM: it is not even text"))
}

/// The certificate's DNS names; that of its subject only if it has no others.
fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    if let Ok(Some(alternative)) = leaf.subject_alternative_name() {
        for name in &alternative.value.general_names {
            if let GeneralName::DNSName(dns) = name {
                out.push(dns.to_ascii_lowercase());
            }
        }
    }
    if out.is_empty() {
        out.extend(leaf.subject().iter_common_name().filter_map(|cn| cn.as_str().ok()).map(str::to_ascii_lowercase));
    }
    out.dedup();
    out
}
