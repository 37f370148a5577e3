//! Reports of the proxies that are connected here, told to the other replicas.
//!
//! A proxy talks to one replica of the controller. Every replica must know every report, since every replica plans, and
//! any of them may be the leader a moment later. So each replica passes on, as it is, what its own proxies report, to
//! each of its peers, over the same service and the same mTLS. What comes from a peer is not passed on again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::{broadcast, watch},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Endpoint, Uri},
};

/// Metadata key that marks a stream as relayed.
pub const RELAYED: &str = "x-directlb-relayed";

const PAUSE: Duration = Duration::from_secs(1);

/// Passes reports on to `peers` until it is dropped or aborted.
pub async fn run(
    reports: broadcast::Sender<Arc<ExportMetricsServiceRequest>>,
    mut peers: watch::Receiver<BTreeSet<SocketAddr>>,
    tls: watch::Receiver<Arc<ClientConfig>>,
) {
    let mut running: BTreeMap<SocketAddr, Abort> = BTreeMap::new();
    loop {
        let wanted = peers.borrow_and_update().clone();
        running.retain(|peer, _| wanted.contains(peer));
        for peer in wanted {
            running.entry(peer).or_insert_with(|| {
                tracing::info!(%peer, "passing reports on to another replica");
                Abort(tokio::spawn(to_peer(peer, reports.clone(), tls.clone())))
            });
        }
        if peers.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

struct Abort(JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn to_peer(
    peer: SocketAddr,
    reports: broadcast::Sender<Arc<ExportMetricsServiceRequest>>,
    tls: watch::Receiver<Arc<ClientConfig>>,
) {
    loop {
        let config = tls.borrow().clone();
        if let Err(error) = stream_to(peer, reports.clone(), config).await {
            tracing::debug!(%peer, %error, "relay");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn stream_to(
    peer: SocketAddr,
    reports: broadcast::Sender<Arc<ExportMetricsServiceRequest>>,
    tls: Arc<ClientConfig>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = Endpoint::from_shared(format!("http://{peer}"))?
        .connect_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    let connector = tower::service_fn(move |_: Uri| {
        let connection = connect(peer, tls.clone());
        Box::pin(connection) as BoxFuture<'static, io::Result<TokioIo<TlsStream<TcpStream>>>>
    });
    let channel = endpoint.connect_with_connector(connector).await?;
    let mut client = MetricsServiceClient::new(channel).max_encoding_message_size(64 << 20);
    let mut reports = reports.subscribe();
    loop {
        let message = match reports.recv().await {
            Ok(message) => message,
            // Each report is complete in itself; a lost one is made up for by the next.
            Err(broadcast::error::RecvError::Lagged(_)) => continue,
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        };
        let mut request = Request::new((*message).clone());
        request.metadata_mut().insert(RELAYED, MetadataValue::from_static("1"));
        client.export(request).await?;
    }
}

async fn connect(peer: SocketAddr, tls: Arc<ClientConfig>) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let tcp = TcpStream::connect(peer).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(crate::runtime::pki::SERVER_NAME).map_err(io::Error::other)?;
    Ok(TokioIo::new(TlsConnector::from(tls).connect(name, tcp).await?))
}
