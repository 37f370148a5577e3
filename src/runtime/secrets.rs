//! Where the certificates are kept: one Secret for the controller, one that the proxies mount.
//!
//! Both are watched: deleted or edited, they are restored within a moment; and they are renewed in time. Every replica
//! reads them; the leader writes, and at the very first start whoever comes first.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams, runtime::watcher};
use tokio::sync::watch;

use super::{
    clock::Clock,
    pki::{self, Bundle, Pair, PkiError},
};

/// What the Secrets and certificates are called.
#[derive(Clone, Debug)]
pub struct Names {
    /// The controller's Secret.
    pub pki: String,
    /// The proxies' Secret.
    pub proxy: String,
    /// DNS names of the replicas' certificate.
    pub dns: Vec<String>,
}

/// Why the certificates could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The API server.
    #[error("certificates: {0}")]
    Kube(#[from] Box<kube::Error>),
    /// The certificates themselves.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Not this replica's turn to make them.
    #[error("the leader has not made the certificates yet")]
    NotYet,
}

impl From<kube::Error> for SecretsError {
    fn from(e: kube::Error) -> Self {
        Self::Kube(Box::new(e))
    }
}

const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the certificates until the process ends; sends each new state.
pub async fn keep(
    client: Client,
    namespace: String,
    names: Names,
    mut leading: watch::Receiver<bool>,
    clock: Clock,
    out: watch::Sender<Option<Arc<Bundle>>>,
) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let watch_one = |name: &str| {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        watcher::watcher(api.clone(), config).boxed()
    };
    let mut events = futures::stream::select(watch_one(&names.pki), watch_one(&names.proxy));
    loop {
        let writer = *leading.borrow_and_update();
        let known = out.borrow().as_deref().cloned();
        let pause = match ensure(&api, &names, writer, known, &clock).await {
            Ok(bundle) => {
                out.send_if_modified(|old| {
                    let new = old.as_deref() != Some(&bundle);
                    if new {
                        *old = Some(Arc::new(bundle));
                    }
                    new
                });
                // Due dates are days away; an hour is often enough to look.
                Duration::from_secs(3600)
            }
            Err(error) => {
                tracing::warn!(%error, "certificates");
                PAUSE
            }
        };
        tokio::select! {
            event = events.next() => match event {
                Some(Err(error)) => {
                    tracing::debug!(%error, "watch of the certificates");
                    tokio::time::sleep(PAUSE).await;
                }
                Some(Ok(_)) => {}
                None => return,
            },
            changed = leading.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn ensure(
    api: &Api<Secret>,
    names: &Names,
    writer: bool,
    known: Option<Bundle>,
    clock: &Clock,
) -> Result<Bundle, SecretsError> {
    let have = api.get_opt(&names.pki).await?;
    let stored = have.as_ref().and_then(read);
    let now = clock.now();
    // A Secret that was deleted or damaged is restored as it was: a new CA would lock every proxy out for a while.
    let sound = stored.clone().filter(|s| pki::is_sound(s, now));
    let bundle = pki::maintain(sound.or(known), &names.dns, now)?;
    if stored.as_ref() != Some(&bundle) {
        // Nothing there at all: whoever comes first makes it, and the others read it.
        if !writer && have.is_some() {
            return stored.ok_or(SecretsError::NotYet);
        }
        write(api, &names.pki, have.as_ref(), controller_data(&bundle)).await?;
        tracing::info!(secret = %names.pki, "certificates written");
    }
    let proxy = api.get_opt(&names.proxy).await?;
    let data = proxy_data(&bundle);
    if proxy.as_ref().and_then(|s| s.data.as_ref()) != Some(&data) && (writer || proxy.is_none()) {
        write(api, &names.proxy, proxy.as_ref(), data).await?;
        tracing::info!(secret = %names.proxy, "the proxies' certificate written");
    }
    Ok(bundle)
}

async fn write(
    api: &Api<Secret>,
    name: &str,
    have: Option<&Secret>,
    data: BTreeMap<String, ByteString>,
) -> Result<(), kube::Error> {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "directlb".to_owned())])),
            // Another replica that wrote in the meantime wins; this one reads again.
            resource_version: have.and_then(|s| s.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    match have {
        None => api.create(&PostParams::default(), &secret).await?,
        Some(_) => api.replace(name, &PostParams::default(), &secret).await?,
    };
    Ok(())
}

fn controller_data(bundle: &Bundle) -> BTreeMap<String, ByteString> {
    let next = bundle.next.clone().unwrap_or(Pair { cert: String::new(), key: String::new() });
    let entries = [
        ("ca.crt", bundle.ca.cert.clone()),
        ("ca.key", bundle.ca.key.clone()),
        ("ca-next.crt", next.cert),
        ("ca-next.key", next.key),
        ("ca-old.crt", bundle.old.concat()),
        ("tls.crt", bundle.server.cert.clone()),
        ("tls.key", bundle.server.key.clone()),
        ("client.crt", bundle.client.cert.clone()),
        ("client.key", bundle.client.key.clone()),
    ];
    entries.into_iter().map(|(k, v)| (k.to_owned(), ByteString(v.into_bytes()))).collect()
}

fn proxy_data(bundle: &Bundle) -> BTreeMap<String, ByteString> {
    let entries =
        [("ca.crt", bundle.trust()), ("tls.crt", bundle.client.cert.clone()), ("tls.key", bundle.client.key.clone())];
    entries.into_iter().map(|(k, v)| (k.to_owned(), ByteString(v.into_bytes()))).collect()
}

fn read(secret: &Secret) -> Option<Bundle> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| data.get(key).and_then(|b| String::from_utf8(b.0.clone()).ok()).unwrap_or_default();
    let pair = |cert: &str, key: &str| Pair { cert: text(cert), key: text(key) };
    let next = pair("ca-next.crt", "ca-next.key");
    Some(Bundle {
        ca: pair("ca.crt", "ca.key"),
        next: (!next.cert.is_empty()).then_some(next),
        old: split(&text("ca-old.crt")),
        server: pair("tls.crt", "tls.key"),
        client: pair("client.crt", "client.key"),
    })
}

fn split(pems: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    pems.split_inclusive(END).filter(|p| p.contains("BEGIN")).map(|p| format!("{}\n", p.trim())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::Time;

    #[test]
    fn what_is_written_is_read_again() {
        let names = vec![pki::SERVER_NAME.to_owned()];
        let mut bundle = pki::maintain(None, &names, Time(1_800_000_000_000)).unwrap();
        let other = pki::maintain(None, &names, Time(1_800_000_000_000)).unwrap();
        bundle.next = Some(other.ca.clone());
        bundle.old = vec![format!("{}\n", other.ca.cert.trim()), format!("{}\n", bundle.ca.cert.trim())];
        let secret = Secret { data: Some(controller_data(&bundle)), ..Secret::default() };
        assert_eq!(read(&secret), Some(bundle));
    }
}
