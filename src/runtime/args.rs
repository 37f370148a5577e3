//! The command line and the environment.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::gate::configuration::Injection;

/// DirectLB: load balancers whose backends are the Pods.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller.
    Controller(Box<ControllerArgs>),
    /// Print the CustomResourceDefinitions, or apply them.
    Crds {
        /// Apply them to the cluster instead (server-side apply).
        #[arg(long)]
        apply: bool,
    },
    /// Show what applying an object would change: in the proxies, or in the cloud. Nothing is written anywhere.
    Plan {
        /// The file with the objects, YAML; `-`: standard input.
        #[arg(short = 'f', long)]
        filename: String,
        /// The namespace of objects that name none.
        #[arg(short = 'n', long, default_value = "default")]
        namespace: String,
        /// The controller's namespace, where classes' Secrets are.
        #[arg(long, default_value = "directlb-system")]
        controller_namespace: String,
    },
    /// Check what the cluster must have for its Pods to be reached, and say what to do about what it has not. Nothing is
    /// written anywhere. Fails if a check fails.
    Check {
        /// How the findings are printed.
        #[arg(short = 'o', long, default_value = "text")]
        output: Output,
        /// The controller's namespace, where classes' Secrets are.
        #[arg(long, default_value = "directlb-system")]
        controller_namespace: String,
    },
    /// Undo what would outlive an uninstalled controller: open all gates, remove finalizers, delete the admission
    /// configurations. Users' objects stay.
    Cleanup {
        /// The controller's Deployment, which is scaled to 0 first: else it would do everything again.
        #[arg(long, env = "DIRECTLB_DEPLOYMENT")]
        deployment: String,
        /// Its namespace.
        #[arg(long, env = "POD_NAMESPACE")]
        namespace: String,
    },
}

/// Settings of the controller.
#[derive(Clone, Debug, Args)]
pub struct ControllerArgs {
    /// The controller's Pod.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// The controller's namespace, where its Lease, its Secrets and its proxies are.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Where proxies fetch their configuration and send their reports (xDS and metrics service, mTLS).
    #[arg(long, env = "DIRECTLB_XDS_LISTEN", default_value = "0.0.0.0:18000")]
    pub xds_listen: SocketAddr,
    /// Where the admission webhook is served (TLS).
    #[arg(long, env = "DIRECTLB_WEBHOOK_LISTEN", default_value = "0.0.0.0:9443")]
    pub webhook_listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "DIRECTLB_HTTP_LISTEN", default_value = "0.0.0.0:8080")]
    pub http_listen: SocketAddr,
    /// The Lease that the replicas elect their leader by.
    #[arg(long, env = "DIRECTLB_LEASE", default_value = "directlb")]
    pub lease: String,
    /// The Service of the webhook.
    #[arg(long, env = "DIRECTLB_WEBHOOK_SERVICE", default_value = "directlb-webhook")]
    pub webhook_service: String,
    /// The Secret that holds the controller's CA and its serving certificate.
    #[arg(long, env = "DIRECTLB_PKI_SECRET", default_value = "directlb-pki")]
    pub pki_secret: String,
    /// The Secret that the proxies mount.
    #[arg(long, env = "DIRECTLB_PROXY_SECRET", default_value = "directlb-proxy-tls")]
    pub proxy_secret: String,
    /// The ClusterRole that owns the webhook configurations, so that they go with it.
    #[arg(long, env = "DIRECTLB_CLUSTER_ROLE", default_value = "directlb-controller")]
    pub cluster_role: String,
    /// What puts gates into Pods.
    #[arg(long, env = "DIRECTLB_INJECTION", default_value = "Auto")]
    pub injection: Injection,
    /// Label selector of the controller's own Pods, to which reports are relayed.
    #[arg(long, env = "DIRECTLB_PEER_LABEL", default_value = "app.kubernetes.io/component=controller")]
    pub peer_label: String,
    /// How long a proxy that does not report is waited for.
    #[arg(long, env = "DIRECTLB_PROXY_TIMEOUT", default_value = "60s", value_parser = humantime::parse_duration)]
    pub proxy_timeout: Duration,
    /// How log lines look.
    #[arg(long, env = "DIRECTLB_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
