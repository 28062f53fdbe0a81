//! The reference backend: one set of MCP handlers, served over stdio or Streamable HTTP.
//!
//! Tests put a gateway in front of it and compare what a client sees with what it sees direct. It
//! speaks both eras (2024-11-05 to 2025-11-25 with `initialize`, and 2026-07-28 without) or, with
//! `--era`, one of them, and has every name the conformance package asserts. It never misbehaves:
//! `faulty.py` does that.

mod answers;
mod call;
mod catalog;
mod conformance;
mod era;
mod jobs;
mod passthrough;
mod prompts;
mod questions;
mod resources;
mod rounds;
mod server;
mod state;

use std::{convert::Infallible, io::Write, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use era::Era;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rmcp::{
    ServiceExt,
    model::ProtocolVersion,
    service::ServerInitializeError,
    transport::{
        async_rw::AsyncRwTransport,
        streamable_http_server::{
            StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
        },
    },
};
use server::ReferenceServer;
use state::Shared;
use tokio_util::task::TaskTracker;

/// A well-behaved MCP server for tests.
#[derive(Parser)]
#[command(name = "reference-backend")]
struct Cli {
    #[command(subcommand)]
    transport: Transport,

    /// Answer lists in pages of this many items
    #[arg(long, global = true, value_name = "N")]
    page_size: Option<usize>,

    /// Wait this long before reading the first byte or opening the port
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    start_delay_ms: u64,

    /// Newest protocol version to agree to
    #[arg(long, global = true, value_name = "V", default_value = "2026-07-28")]
    protocol_version: String,

    /// The eras to speak. A server of one era answers the other's opening as real ones do: legacy
    /// knows no `server/discover`, modern answers `initialize` with the versions that it supports
    #[arg(long, global = true, value_name = "E", default_value = "dual")]
    era: Era,
}

#[derive(Subcommand)]
enum Transport {
    /// Serve one client on stdin and stdout
    Stdio,
    /// Serve Streamable HTTP on 127.0.0.1; prints `listening on 127.0.0.1:PORT` when ready
    Http {
        /// Port to bind; 0 lets the kernel choose
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let newest = ProtocolVersion::KNOWN_VERSIONS
        .iter()
        .find(|known| known.as_str() == cli.protocol_version)
        .with_context(|| format!("no protocol version named \"{}\"", cli.protocol_version))?;
    tokio::time::sleep(Duration::from_millis(cli.start_delay_ms)).await;
    let http_sessions = Arc::new(LocalSessionManager::default());
    let versions = cli.era.versions(newest);
    if versions.is_empty() {
        bail!("no protocol version up to {newest} is of that era");
    }
    let shared = Shared::new(versions, cli.page_size, http_sessions.clone());
    match cli.transport {
        Transport::Stdio => serve_stdio(shared, cli.era).await,
        Transport::Http { port } => serve_http(shared, cli.era, http_sessions, port).await,
    }
}

async fn serve_stdio(shared: Arc<Shared>, era: Era) -> anyhow::Result<()> {
    let (stdin, stdout) = rmcp::transport::stdio();
    let transport = era::Stdio::new(AsyncRwTransport::new(stdin, stdout), era, shared.clone());
    match ReferenceServer::new(shared).serve(transport).await {
        Ok(serving) => drop(serving.waiting().await?),
        // The client asked what we are, or nothing at all, and left.
        Err(ServerInitializeError::ConnectionClosed(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Serves until killed. Host and Origin are held to loopback, as the conformance suite asks.
async fn serve_http(
    shared: Arc<Shared>,
    era: Era,
    sessions: Arc<LocalSessionManager>,
    port: u16,
) -> anyhow::Result<()> {
    let config = StreamableHttpServerConfig::default()
        .enforce_origin_validation()
        .with_legacy_session_mode(era != Era::Modern)
        .with_stateless_protocol_metadata_required(era == Era::Modern)
        .with_allowed_origins(["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"])
        .with_sse_retry(Some(Duration::from_millis(500)))
        .with_max_request_body_bytes(64 * 1024 * 1024);
    let factory = move || Ok(ReferenceServer::new(shared.clone()));
    let service = StreamableHttpService::new(factory, sessions, config);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    std::io::stdout().flush()?;

    let connections = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let service = service.clone();
            async move {
                Ok::<_, Infallible>(match era::refuse(era, request.headers()) {
                    Some(refused) => refused.map(|body| Full::from(body).boxed()),
                    None => service.handle(request).await,
                })
            }
        });
        connections.spawn(async move {
            // A client that goes away mid-stream is ordinary: nobody is left to tell.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
