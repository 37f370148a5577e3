//! The controller's own certificate authority, and the certificates that it issues. Pure, but for making keys.
//!
//! There are two leaf certificates: the replicas' (they serve the webhook, and discovery to the proxies) and the proxies'
//! (clients). A CA is replaced in two steps, so that nobody meets a certificate that it does not trust yet: the next CA is
//! published in the trust bundle first, and signs only a week later; the old one stays trusted until it expires.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

use crate::model::Time;

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_LIFE: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
/// A CA with less than this left gets a successor.
const CA_RENEW: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long the successor is published before it signs.
const CA_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);
const LEAF_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// A leaf with less than this left is issued anew.
const LEAF_RENEW: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks differ.
const BACKDATE: Duration = Duration::from_secs(3600);

/// The name that every replica's certificate carries, whatever the namespace: what proxies and peers verify.
pub const SERVER_NAME: &str = "directlb.internal";
/// The name in the proxies' certificate.
pub const CLIENT_NAME: &str = "proxy.directlb.internal";

/// Why no certificate could be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A certificate could not be issued.
    #[error("issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// Stored data is no certificate or key.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// Which entry.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(..)")
    }
}

/// Everything that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The CA that signs.
    pub ca: Pair,
    /// Its successor, published and not signing yet.
    pub next: Option<Pair>,
    /// CAs that signed before and have not expired.
    pub old: Vec<String>,
    /// The replicas' certificate.
    pub server: Pair,
    /// The proxies' certificate.
    pub client: Pair,
}

impl Bundle {
    /// The trust bundle: every CA that a valid certificate may be signed by.
    #[must_use]
    pub fn trust(&self) -> String {
        let all = std::iter::once(&self.ca.cert).chain(self.next.iter().map(|n| &n.cert)).chain(&self.old);
        all.map(|pem| pem.trim_end().to_owned() + "\n").collect()
    }
}

/// What is stored, brought up to date: made, renewed, rotated. Returns what is to be stored, equal to `stored` if nothing is
/// due. Anything damaged or signed by nobody is replaced.
///
/// # Errors
/// When a certificate cannot be issued.
pub fn maintain(stored: Option<Bundle>, names: &[String], now: Time) -> Result<Bundle, PkiError> {
    let Some(mut bundle) = stored.filter(|b| usable_ca(&b.ca, now)) else {
        let ca = new_ca(now)?;
        let server = leaf(&ca, names, true, now)?;
        let client = leaf(&ca, &[CLIENT_NAME.into()], false, now)?;
        return Ok(Bundle { ca, next: None, old: Vec::new(), server, client });
    };
    bundle.old.retain(|pem| remaining(pem, now).is_some_and(|left| !left.is_zero()));
    if bundle.next.as_ref().is_some_and(|n| !usable_ca(n, now)) {
        bundle.next = None;
    }
    match &bundle.next {
        None => {
            if remaining(&bundle.ca.cert, now).is_none_or(|left| left < CA_RENEW) {
                bundle.next = Some(new_ca(now)?);
            }
        }
        Some(next) => {
            if age(&next.cert, now).is_some_and(|age| age >= CA_OVERLAP) {
                let next = next.clone();
                bundle.old.push(std::mem::replace(&mut bundle.ca, next).cert);
                bundle.next = None;
            }
        }
    }
    if !usable_leaf(&bundle.server, &bundle, names, now) {
        bundle.server = leaf(&bundle.ca, names, true, now)?;
    }
    let client = [CLIENT_NAME.to_owned()];
    if !usable_leaf(&bundle.client, &bundle, &client, now) {
        bundle.client = leaf(&bundle.ca, &client, false, now)?;
    }
    Ok(bundle)
}

/// Whether the CA can go on signing: then the rest can be repaired without anybody noticing.
#[must_use]
pub fn is_sound(bundle: &Bundle, now: Time) -> bool {
    usable_ca(&bundle.ca, now)
}

fn date(t: Time) -> OffsetDateTime {
    let seconds = i64::try_from(t.0 / 1000).unwrap_or(0);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn validity(params: &mut CertificateParams, now: Time, life: Duration) {
    params.not_before = date(Time(now.0.saturating_sub(u64::try_from(BACKDATE.as_millis()).unwrap_or(0))));
    params.not_after = date(now.plus(life));
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn new_ca(now: Time) -> Result<Pair, PkiError> {
    let key = KeyPair::generate()?;
    let mut params = ca_params();
    // Two CAs must differ by name too, or a verifier may try the wrong one.
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("directlb-ca-{}", now.0));
    params.distinguished_name = name;
    validity(&mut params, now, CA_LIFE);
    Ok(Pair { cert: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

fn leaf(ca: &Pair, names: &[String], server: bool, now: Time) -> Result<Pair, PkiError> {
    let issuer = Issuer::from_ca_cert_pem(&ca.cert, KeyPair::from_pem(&ca.key)?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    let mut name = DistinguishedName::new();
    name.push(
        DnType::CommonName,
        names.first().map_or("directlb", String::as_str).chars().take(64).collect::<String>(),
    );
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        if server { vec![ExtendedKeyUsagePurpose::ServerAuth] } else { vec![ExtendedKeyUsagePurpose::ClientAuth] };
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, LEAF_LIFE);
    Ok(Pair { cert: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

/// From its start, and to its end.
fn times(pem: &str) -> Option<(Time, Time)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let cert = pem.parse_x509().ok()?;
    let ms = |s: i64| u64::try_from(s).unwrap_or(0).saturating_mul(1000);
    let validity = cert.validity();
    Some((Time(ms(validity.not_before.timestamp())), Time(ms(validity.not_after.timestamp()))))
}

fn remaining(pem: &str, now: Time) -> Option<Duration> {
    times(pem).map(|(_, end)| end.since(now))
}

fn age(pem: &str, now: Time) -> Option<Duration> {
    times(pem).map(|(start, _)| now.since(start.plus(BACKDATE)))
}

fn key_matches(pair: &Pair) -> bool {
    let Ok(key) = KeyPair::from_pem(&pair.key) else { return false };
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(pair.cert.as_bytes()) else { return false };
    let Ok(cert) = pem.parse_x509() else { return false };
    use rcgen::PublicKeyData as _;
    cert.public_key().raw == key.subject_public_key_info().as_slice()
}

fn usable_ca(pair: &Pair, now: Time) -> bool {
    key_matches(pair) && remaining(&pair.cert, now).is_some_and(|left| left > DAY)
}

fn usable_leaf(pair: &Pair, bundle: &Bundle, names: &[String], now: Time) -> bool {
    if !key_matches(pair) || remaining(&pair.cert, now).is_none_or(|left| left < LEAF_RENEW) {
        return false;
    }
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(pair.cert.as_bytes()) else { return false };
    let Ok(cert) = pem.parse_x509() else { return false };
    let has: Vec<&str> = cert
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|ext| {
            ext.value
                .general_names
                .iter()
                .filter_map(|n| match n {
                    x509_parser::extensions::GeneralName::DNSName(name) => Some(*name),
                    _ => None,
                })
                .collect()
        })
        .unwrap_or_default();
    names.iter().all(|n| has.contains(&n.as_str())) && signed_by_one_of(&cert, bundle)
}

fn signed_by_one_of(cert: &x509_parser::certificate::X509Certificate<'_>, bundle: &Bundle) -> bool {
    let trusted = std::iter::once(&bundle.ca.cert).chain(&bundle.old);
    trusted.into_iter().any(|ca| {
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(ca.as_bytes()) else { return false };
        pem.parse_x509().is_ok_and(|ca| ca.subject() == cert.issuer())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    };

    use super::*;

    fn names() -> Vec<String> {
        vec!["directlb-webhook.directlb-system.svc".into(), SERVER_NAME.into()]
    }

    fn verifies(server: &str, trust: &str, now: Time) -> bool {
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(trust.as_bytes()) {
            roots.add(cert.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let cert = CertificateDer::from_pem_slice(server.as_bytes()).unwrap();
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        verifier.verify_server_cert(&cert, &[], &name, &[], at).is_ok()
    }

    const START: Time = Time(1_800_000_000_000);

    #[test]
    fn nothing_is_due_right_after() {
        let bundle = maintain(None, &names(), START).unwrap();
        assert_eq!(maintain(Some(bundle.clone()), &names(), START.plus(DAY)).unwrap(), bundle);
        assert!(verifies(&bundle.server.cert, &bundle.trust(), START));
    }

    /// Twelve years in steps of three days: at each step the certificate in use is trusted by whoever has the trust bundle of
    /// the step before, and the one before by whoever has the new bundle.
    #[test]
    fn rotation_overlaps() {
        let mut bundle = maintain(None, &names(), START).unwrap();
        let (mut leaves, mut cas) = (0, 0);
        let mut now = START;
        for _ in 0..12 * 365 / 3 {
            now = now.plus(DAY * 3);
            let next = maintain(Some(bundle.clone()), &names(), now).unwrap();
            assert!(verifies(&next.server.cert, &bundle.trust(), now), "not trusted by those who lag");
            assert!(verifies(&bundle.server.cert, &next.trust(), now), "no longer trusted though still in use");
            leaves += u32::from(next.server != bundle.server);
            cas += u32::from(next.ca != bundle.ca);
            bundle = next;
        }
        assert!(leaves > 60 && cas >= 2, "{leaves} leaves, {cas} CAs");
    }

    #[test]
    fn damage_is_repaired() {
        let good = maintain(None, &names(), START).unwrap();
        type Edit = fn(&mut Bundle);
        let edits: &[(&str, Edit, bool)] = &[
            ("server certificate", |b| b.server.cert = "garbage".into(), false),
            ("server key of another", |b| b.server.key = b.client.key.clone(), false),
            ("client key", |b| b.client.key = String::new(), false),
            ("CA key", |b| b.ca.key = "x".into(), true),
            ("CA of another", |b| b.ca = new_ca(START).unwrap(), false),
        ];
        for (what, edit, new_ca_expected) in edits {
            let mut bad = good.clone();
            edit(&mut bad);
            let fixed = maintain(Some(bad.clone()), &names(), START).unwrap();
            assert_ne!(fixed, bad, "{what}");
            assert!(verifies(&fixed.server.cert, &fixed.trust(), START), "{what}");
            assert_eq!(fixed.ca != bad.ca, *new_ca_expected, "{what}");
        }
    }

    #[test]
    fn a_new_service_name_means_a_new_certificate() {
        let bundle = maintain(None, &names(), START).unwrap();
        let more = [names(), vec!["other.svc".into()]].concat();
        assert_ne!(maintain(Some(bundle.clone()), &more, START).unwrap().server, bundle.server);
    }
}
