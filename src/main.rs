//! The `tower-chassis` binary: the gateway, its check, its routes, and the demo service.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program speaks to its terminal"
)]

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tower_chassis::{
    gateway::{self, DemoUpstream, Ended, Options, RunError},
    observe::{
        log::{self, LogConfig},
        runtime::AllocatorStats,
    },
    router::RouteDocs,
};

/// Memory that a burst of connections took goes back to the system; glibc keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An API gateway made of tower layers. Without a command or a file it serves a demo.
#[derive(Parser)]
#[command(
    name = "tower-chassis",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway (the default). Exits 0 drained, 1 faults in the file, 2 unreadable, 3 drain cut short.
    Run(Run),
    /// Say what is wrong with a file, without running it. Exits 0, 1 or 2 as `run` does.
    Check {
        /// The file: YAML, or TOML by its ending.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// List the routes of a file. Exits 0, 1 or 2 as `run` does.
    Routes {
        /// The file: YAML, or TOML by its ending.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How they are written.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Say which route of a file a request takes, and why. Exits 0, 1 or 2 as `run` does, whatever the answer.
    Explain {
        /// The file: YAML, or TOML by its ending.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The method: GET, POST …
        method: http::Method,
        /// The path, with or without a query, or a URL.
        target: http::Uri,
    },
    /// Run one instance of the demo service.
    Upstream {
        /// The name of the service.
        #[arg(long, default_value = "shop")]
        service: String,
        /// Its version.
        #[arg(long, default_value = "v1")]
        version: String,
        /// The name of this instance.
        #[arg(long)]
        instance: Option<String>,
        /// The port on 127.0.0.1; 0 takes a free one.
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
    Markdown,
}

#[derive(Args)]
struct Run {
    /// The file: YAML, or TOML by its ending. It is watched: a change is live within a second.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the gateway listens: host:port or unix:/path. Default 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the admin service listens. Default 127.0.0.1:9090.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(run) => {
            let mut options = Options::default();
            (options.config, options.listen, options.admin) = (run.config, run.listen, run.admin);
            options.log = true;
            options.allocator = Some(allocator);
            // A gateway does not end because nobody listens to what it says.
            serve(async { gateway::run(options, |line| drop(print(&format!("{line}\n")))).await })
        }
        Command::Check { config } => {
            let mut options = Options::default();
            options.config = Some(config);
            match gateway::check(&options) {
                Ok(model) => said(&format!(
                    "ok: {} services, {} routes\n",
                    model.services.len(),
                    model.routes.len()
                )),
                Err(error) => failed(&error),
            }
        }
        Command::Routes { config, format } => {
            let mut options = Options::default();
            options.config = Some(config);
            match gateway::routes(&options) {
                Ok(routes) => {
                    let docs = RouteDocs::new(routes.routes().iter().cloned());
                    said(&match format {
                        Format::Text => docs.text(),
                        Format::Json => docs.json(),
                        Format::Markdown => docs.markdown(),
                    })
                }
                Err(error) => failed(&error),
            }
        }
        Command::Explain {
            config,
            method,
            target,
        } => {
            let mut options = Options::default();
            options.config = Some(config);
            match gateway::routes(&options) {
                Ok(routes) => {
                    let mut request = http::Request::new(());
                    (*request.method_mut(), *request.uri_mut()) = (method, target);
                    said(&format!("{}\n", routes.explain_for(&request)))
                }
                Err(error) => failed(&error),
            }
        }
        Command::Upstream {
            service,
            version,
            instance,
            port,
        } => {
            let instance = instance.unwrap_or_else(|| std::process::id().to_string());
            let upstream = DemoUpstream::new(&service, &version, &instance);
            // It fails where there is one already, and there is none.
            let _log = log::init(LogConfig::default());
            serve(async {
                let say = |address: &_| {
                    drop(print(&format!(
                        "upstream {version} listening on {address}\n"
                    )));
                };
                Ok(gateway::upstream(upstream, &format!("127.0.0.1:{port}"), say).await?)
            })
        }
    }
}

fn serve(run: impl Future<Output = Result<Ended, RunError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&RunError::from(error)),
    };
    let ended = runtime.block_on(run);
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    match ended {
        Ok(Ended::Clean) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err(error) => failed(&error),
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A reader that has enough (`| head`) is no failure.
fn said(text: &str) -> ExitCode {
    match print(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn failed(error: &RunError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(match error {
        RunError::Config(error) => error.exit_code(),
        _ => 2,
    })
}

/// What jemalloc counts: some microseconds, and only when somebody asks.
fn allocator() -> AllocatorStats {
    use tikv_jemalloc_ctl::{epoch, stats};
    let bytes = |read: Result<usize, _>| read.ok().and_then(|bytes| u64::try_from(bytes).ok());
    // It counts anew only when it is told.
    if epoch::advance().is_err() {
        return AllocatorStats::default();
    }
    AllocatorStats {
        allocated: bytes(stats::allocated::read()),
        active: bytes(stats::active::read()),
        resident: bytes(stats::resident::read()),
        mapped: bytes(stats::mapped::read()),
    }
}
