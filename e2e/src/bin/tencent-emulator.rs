//! The emulator of Tencent's CLB as a program. Prints the address that it listens on, and ends on SIGTERM and SIGINT.

use std::process::ExitCode;

use e2e::tencent::{Emulator, Settings};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: tencent-emulator [--listen ADDRESS:PORT] [--tls-cert FILE --tls-key FILE] [--settings FILE]
       tencent-emulator --actions

  --listen    127.0.0.1:0 unless given; a port of 0 is chosen by the system
  --settings  JSON; without `start`, its clock is the machine's
  --actions   lists the actions that there are";

type Failure = Box<dyn std::error::Error>;

#[derive(Default)]
struct Args {
    listen: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    settings: Option<String>,
}

fn args() -> Result<Option<Args>, Failure> {
    let (mut args, mut given) = (Args::default(), std::env::args().skip(1));
    while let Some(name) = given.next() {
        let place = match name.as_str() {
            "--actions" => {
                println!("{}", Emulator::ACTIONS.join("\n"));
                return Ok(None);
            }
            "--listen" => &mut args.listen,
            "--tls-cert" => &mut args.cert,
            "--tls-key" => &mut args.key,
            "--settings" => &mut args.settings,
            _ => return Err(USAGE.into()),
        };
        *place = Some(given.next().ok_or(USAGE)?);
    }
    Ok(Some(args))
}

fn settings(file: Option<String>) -> Result<Settings, Failure> {
    let text = match &file {
        Some(file) => std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?,
        None => "{}".to_owned(),
    };
    let mut json: serde_json::Value = serde_json::from_str(&text)?;
    if let Some(map) = json.as_object_mut() {
        #[allow(clippy::disallowed_methods)] // A program that clients talk to has the clients' time.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        map.entry("start").or_insert(now.into());
    }
    Ok(serde_json::from_value(json)?)
}

fn tls(args: &Args) -> Result<Option<ServerConfig>, Failure> {
    let (Some(cert), Some(key)) = (&args.cert, &args.key) else {
        return if args.cert.is_none() && args.key.is_none() { Ok(None) } else { Err(USAGE.into()) };
    };
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let provider = rustls::crypto::ring::default_provider().into();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Some(config.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?))
}

async fn run(args: Args) -> Result<(), Failure> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let tls = tls(&args)?;
    let emulator = Emulator::new(settings(args.settings)?);
    let listener = TcpListener::bind(args.listen.as_deref().unwrap_or("127.0.0.1:0")).await?;
    println!("{}", listener.local_addr()?);
    tokio::select! {
        () = emulator.serve(listener, tls) => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match args() {
        Ok(None) => Ok(()),
        Ok(Some(args)) => run(args).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
