//! Health by connecting.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an address has to accept.
const PATIENCE: Duration = Duration::from_secs(1);
/// Connections that are tried at a time.
const AT_A_TIME: usize = 64;

/// Whether each of these accepts a connection.
pub(super) async fn probe(all: Vec<(String, i64)>) -> Vec<((String, i64), bool)> {
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let mut probes = JoinSet::new();
    for (ip, port) in all {
        let turns = Arc::clone(&turns);
        probes.spawn(async move {
            let _turn = turns.acquire().await;
            let target = ip.parse::<IpAddr>().ok().zip(u16::try_from(port).ok());
            let answers = match target {
                Some(target) => matches!(timeout(PATIENCE, TcpStream::connect(target)).await, Ok(Ok(_))),
                None => false,
            };
            ((ip, port), answers)
        });
    }
    let mut results = Vec::new();
    while let Some(result) = probes.join_next().await {
        results.extend(result);
    }
    results
}
