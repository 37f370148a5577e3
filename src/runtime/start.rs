//! Starts the controller's parts, and stops them in order.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt as _};
use tokio::{net::TcpListener, sync::watch};

use super::{
    args::ControllerArgs,
    clock::Clock,
    http::{self, Health},
    https,
    lease::{Candidate, LeaseConfig},
    pki::{self, Bundle},
    secrets,
    telemetry::Metrics,
    tls::{self, TlsError, TlsListener},
};
use crate::{
    controller::{self, Caches, Setup, Triggers},
    gate::{configuration, webhook},
    provider::envoy::{EnvoyProvider, drains::Drains, relay, reports::Reports, server, xds::Xds},
};

/// Why the controller could not start, or had to stop.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// After the signal to stop, endpoints of this replica are still being used for a moment: it goes on serving for so long.
const LINGER: Duration = Duration::from_secs(3);

/// Runs the controller until it is told to stop.
///
/// # Errors
/// When it cannot listen, or cannot reach the API server at all.
pub async fn controller(args: ControllerArgs) -> Result<(), StartError> {
    let clock = Clock::system();
    let metrics = Metrics::new()?;
    let health = Health::new(clock.clone());
    let client = Client::try_default().await?;

    let xds_listener = TcpListener::bind(args.xds_listen).await?;
    let webhook_listener = TcpListener::bind(args.webhook_listen).await?;
    let http_listener = TcpListener::bind(args.http_listen).await?;
    tokio::spawn(axum::serve(http_listener, http::router(health.clone(), metrics.clone())).into_future());

    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        terminated().await;
        tracing::info!("told to stop");
        let _ = stop.send(true);
    });

    let (lead, leading) = watch::channel(false);
    let bundles = certificates(&client, &args, &leading, &clock);
    let configs = Configs::new(first(bundles.clone(), stopping.clone()).await?)?;
    tokio::spawn(configs.clone().follow(bundles.clone()));

    let (triggers, changes) = Triggers::new();
    let (caches, feeds) = Caches::new(&client, &args.namespace, &triggers);
    let reports = Reports::new(clock.as_fn());
    let observed = metrics.clone();
    let drains = Drains::new(Arc::new(move |took| observed.drain_started_after(took.as_secs_f64())));
    let provider = EnvoyProvider::new(reports.clone(), drains.clone());

    let xds = Xds::new(provider.snapshots(), reports.clone(), drains, clock.as_fn());
    let xds_server = tokio::spawn(server::serve(
        xds_listener,
        configs.xds.subscribe(),
        xds,
        reports.clone(),
        lingering(stopping.clone()),
    ));
    let webhook_router = webhook::router(Arc::new(caches.clone()), metrics.clone());
    let webhook_tls = TlsListener::new(webhook_listener, configs.webhook.subscribe())?;
    let webhook_server = tokio::spawn(
        axum::serve(webhook_tls, webhook_router).with_graceful_shutdown(lingering(stopping.clone())).into_future(),
    );

    let (tell_peers, peers) = watch::channel(BTreeSet::new());
    tokio::spawn(relay::run(reports.direct(), peers, configs.peer.subscribe()));
    let telling = reports.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            telling.tell_all();
        }
    });
    tokio::spawn(find_peers(caches.clone(), args.clone(), tell_peers));
    let params = configuration::Params {
        namespace: args.namespace.clone(),
        service: args.webhook_service.clone(),
        cluster_role: args.cluster_role.clone(),
    };
    tokio::spawn(configuration::keep(
        client.clone(),
        params,
        args.injection,
        leading.clone(),
        configs.trust.subscribe(),
    ));
    let candidate = Candidate {
        client: client.clone(),
        namespace: args.namespace.clone(),
        name: args.lease.clone(),
        identity: args.pod_name.clone(),
        config: LeaseConfig::default(),
        clock: clock.clone(),
    };
    let election = tokio::spawn(candidate.run(lead, stopped(stopping.clone())));

    let setup = Setup {
        client,
        caches,
        feeds,
        triggers,
        changes,
        provider,
        connect: Arc::new(https::connect),
        clock,
        leading,
        metrics,
        health,
        namespace: args.namespace,
        pod_name: args.pod_name,
        proxy_timeout: args.proxy_timeout,
    };
    controller::run(setup, stopped(stopping)).await;
    // The Lease goes first, so that another replica leads at once; the servers go on for a moment.
    let _ = election.await;
    let _ = tokio::time::timeout(LINGER * 2, async {
        let _ = webhook_server.await;
        let _ = xds_server.await;
    })
    .await;
    tracing::info!("stopped");
    Ok(())
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // The sender lives until it has sent.
    let _ = stopping.wait_for(|s| *s).await;
}

async fn lingering(stopping: watch::Receiver<bool>) {
    stopped(stopping).await;
    tokio::time::sleep(LINGER).await;
}

fn certificates(
    client: &Client,
    args: &ControllerArgs,
    leading: &watch::Receiver<bool>,
    clock: &Clock,
) -> watch::Receiver<Option<Arc<Bundle>>> {
    let (out, bundles) = watch::channel(None);
    let (service, namespace) = (&args.webhook_service, &args.namespace);
    let names = secrets::Names {
        pki: args.pki_secret.clone(),
        proxy: args.proxy_secret.clone(),
        dns: vec![
            pki::SERVER_NAME.into(),
            service.clone(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ],
    };
    tokio::spawn(secrets::keep(client.clone(), namespace.clone(), names, leading.clone(), clock.clone(), out));
    bundles
}

async fn first(
    mut bundles: watch::Receiver<Option<Arc<Bundle>>>,
    stopping: watch::Receiver<bool>,
) -> Result<Arc<Bundle>, StartError> {
    tokio::select! {
        bundle = bundles.wait_for(Option::is_some) => {
            bundle?.clone().ok_or_else(|| "no certificates".into())
        }
        () = stopped(stopping) => Err("stopped before there were certificates".into()),
    }
}

/// The TLS configurations of the moment.
#[derive(Clone)]
struct Configs {
    xds: Arc<watch::Sender<Arc<rustls::ServerConfig>>>,
    webhook: Arc<watch::Sender<Arc<rustls::ServerConfig>>>,
    peer: Arc<watch::Sender<Arc<rustls::ClientConfig>>>,
    trust: Arc<watch::Sender<Arc<str>>>,
}

impl Configs {
    fn new(bundle: Arc<Bundle>) -> Result<Self, TlsError> {
        Ok(Self {
            xds: Arc::new(watch::Sender::new(Arc::new(tls::xds_config(&bundle)?))),
            webhook: Arc::new(watch::Sender::new(Arc::new(tls::webhook_config(&bundle)?))),
            peer: Arc::new(watch::Sender::new(Arc::new(tls::peer_config(&bundle)?))),
            trust: Arc::new(watch::Sender::new(bundle.trust().into())),
        })
    }

    async fn follow(self, mut bundles: watch::Receiver<Option<Arc<Bundle>>>) {
        bundles.mark_unchanged();
        while bundles.changed().await.is_ok() {
            let Some(bundle) = bundles.borrow_and_update().clone() else { continue };
            match Self::new(bundle) {
                Ok(next) => {
                    self.xds.send_replace(next.xds.borrow().clone());
                    self.webhook.send_replace(next.webhook.borrow().clone());
                    self.peer.send_replace(next.peer.borrow().clone());
                    self.trust.send_replace(next.trust.borrow().clone());
                    tracing::info!("certificates changed");
                }
                Err(error) => tracing::error!(%error, "the new certificates cannot be used: the old ones stay"),
            }
        }
    }
}

/// The other replicas, by their Pods.
async fn find_peers(caches: Caches, args: ControllerArgs, out: watch::Sender<BTreeSet<SocketAddr>>) {
    let Some((key, value)) = args.peer_label.split_once('=') else {
        tracing::error!(label = %args.peer_label, "peer label: write it as key=value; reports are not relayed");
        return;
    };
    let (key, value) = (key.to_owned(), value.to_owned());
    loop {
        let peers: BTreeSet<SocketAddr> = caches
            .pods
            .state_filter(|p: &Pod| {
                p.metadata.namespace.as_deref() == Some(&args.namespace)
                    && p.labels().get(&key) == Some(&value)
                    && p.metadata.name.as_deref() != Some(&args.pod_name)
            })
            .iter()
            .filter_map(|p| p.status.as_ref()?.pod_ip.as_ref()?.parse().ok())
            .map(|ip| SocketAddr::new(ip, args.xds_listen.port()))
            .collect();
        out.send_if_modified(|old| {
            let new = *old != peers;
            *old = peers;
            new
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
