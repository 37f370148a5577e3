//! The `directlb` binary: the controller, and three small tools around it.

use std::process::ExitCode;

use clap::Parser as _;
use directlb::runtime::{
    args::{Cli, Command, LogFormat},
    check, plan, start, telemetry, tools,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = match &cli.command {
        Command::Controller(args) => args.log_format,
        Command::Crds { .. } | Command::Cleanup { .. } | Command::Plan { .. } | Command::Check { .. } => {
            LogFormat::Text
        }
    };
    telemetry::init_logs(format);
    // One provider for every TLS user in the process; a second installation could only come from here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no async runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Controller(args) => start::controller(*args).await,
            Command::Crds { apply: false } => tools::print_crds(),
            Command::Crds { apply: true } => tools::apply_crds().await,
            Command::Plan { filename, namespace, controller_namespace } => {
                plan::plan(&filename, &namespace, &controller_namespace).await
            }
            Command::Check { output, controller_namespace } => check::check(output, &controller_namespace).await,
            Command::Cleanup { deployment, namespace } => tools::cleanup(&namespace, &deployment).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = e.source();
    }
    text
}
