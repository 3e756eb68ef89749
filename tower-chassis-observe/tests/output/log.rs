//! The lines of an application's log.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{Request, Response};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{Body, BoxError, Carrier, Live};
use tower_chassis_observe::{
    log::{Color, Log, LogConfig, LogFormat, LogHandle, LogOutput, LogPolicy},
    output::{Bound, Output, RollingPolicy},
    trace::TraceLayer,
};
use tracing_subscriber::layer::SubscriberExt;

/// What call sites are of interest to is the process's: subscribers that come and go disturb each other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_735_689_600_123)
}

fn config(format: LogFormat) -> LogConfig {
    LogConfig {
        format,
        ..LogConfig::default()
    }
}

/// What is logged while `run` runs.
fn logged(log: Log, run: impl FnOnce(&LogHandle)) -> String {
    let _alone = alone();
    let written = Written::default();
    let output = Output::new(written.clone(), Bound::default());
    let (layer, handle) = log.output(output).clock(clock).layer().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || run(&handle));
    assert!(handle.output().flush_blocking(Duration::from_secs(30)));
    assert_eq!((handle.lost(), handle.output().failed()), (0, 0));
    let bytes = written.0.lock().unwrap();
    String::from_utf8(bytes.clone()).unwrap()
}

fn log(config: LogConfig) -> Log {
    Log::new(config).environment(None)
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

struct Panics;

impl fmt::Debug for Panics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half")?;
        panic!("planted")
    }
}

struct Fails;

impl fmt::Display for Fails {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Err(fmt::Error)
    }
}

#[derive(Debug)]
struct Chained(Option<Box<Chained>>);

impl fmt::Display for Chained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "outer" } else { "inner" })
    }
}

impl std::error::Error for Chained {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_deref().map(|error| error as _)
    }
}

#[test]
fn a_line_of_text() {
    let text = logged(log(config(LogFormat::Text)), |_| {
        tracing::info!(target: "shop", order = 7, name = "A B", ok = true, "paid {}", 3);
        tracing::warn!(target: "shop", "two\nlines \x1b[31m\u{202e}");
        tracing::error!(target: "shop", trace_id = "mine", what = ?"a\nb");
        tracing::debug!(target: "shop", "not at this level");
    });
    assert_eq!(
        text,
        "2025-01-01T00:00:00.123Z  INFO shop: paid 3 order=7 name=\"A B\" ok=true\n\
         2025-01-01T00:00:00.123Z  WARN shop: two\\nlines \\u{1b}[31m\\u{202e}\n\
         2025-01-01T00:00:00.123Z ERROR shop: field.trace_id=mine what=\"\\\"a\\\\nb\\\"\"\n"
    );
}

#[test]
fn a_line_of_json() {
    let error = Chained(Some(Box::new(Chained(None))));
    let text = logged(log(config(LogFormat::Json)), |_| {
        tracing::info!(
            target: "shop",
            order = 7_u64,
            below = -7_i64,
            large = u128::MAX,
            share = 0.5,
            none = f64::NAN,
            ok = true,
            name = "A \"B\"\n",
            timestamp = "mine",
            level = "mine",
            spans = "mine",
            error = &error as &dyn std::error::Error,
            "quoted \"key\" = 1",
        );
    });
    let [line] = &*parsed(&text) else {
        panic!("{text}")
    };
    assert_eq!(
        *line,
        json!({
            "timestamp": "2025-01-01T00:00:00.123Z",
            "level": "INFO",
            "target": "shop",
            "message": "quoted \"key\" = 1",
            "order": 7,
            "below": -7,
            "large": u128::MAX.to_string(),
            "share": 0.5,
            "none": "NaN",
            "ok": true,
            "name": "A \"B\"\n",
            "field.timestamp": "mine",
            "field.level": "mine",
            "field.spans": "mine",
            "error": "outer: inner",
        })
    );
    assert!(text.starts_with(
        "{\"timestamp\":\"2025-01-01T00:00:00.123Z\",\"level\":\"INFO\",\"target\":\"shop\","
    ));
}

#[test]
fn what_cannot_be_formatted_spoils_nothing() {
    let text = logged(log(config(LogFormat::Json)), |_| {
        tracing::info!(a = ?Panics, b = %Fails, c = 1, long = "ä".repeat(100_000), "said");
        tracing::info!("and again");
    });
    let lines = parsed(&text);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["a"], "half<panicked>");
    assert_eq!(lines[0]["b"], "<cannot be formatted>");
    assert_eq!(
        (&lines[0]["c"], &lines[0]["message"]),
        (&json!(1), &json!("said"))
    );
    assert_eq!(lines[0]["long"].as_str().unwrap().len(), 64 * 1024);
}

#[test]
fn what_logs_while_it_is_formatted_spoils_no_line() {
    struct Logs;
    impl fmt::Debug for Logs {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            tracing::info!("inner");
            f.write_str("done")
        }
    }
    let text = logged(
        log(config(LogFormat::Json)),
        |_| tracing::info!(logs = ?Logs, "outer"),
    );
    // The inner one only reaches a subscriber of the whole process: one of a thread is not entered again.
    let lines = parsed(&text);
    let outer = lines.last().unwrap();
    assert_eq!(
        (&outer["message"], &outer["logs"]),
        (&json!("outer"), &json!("done"))
    );
}

#[test]
fn spans_are_there_on_demand() {
    let say = |_: &LogHandle| {
        let outer = tracing::info_span!("request", method = "GET", status = tracing::field::Empty);
        let _outer = outer.enter();
        outer.record("status", 200);
        let _inner = tracing::info_span!("load").entered();
        tracing::info!("read");
    };
    let spans = |format| LogConfig {
        spans: true,
        ..config(format)
    };
    assert!(!logged(log(config(LogFormat::Json)), say).contains("GET"));
    let lines = parsed(&logged(log(spans(LogFormat::Json)), say));
    assert_eq!(
        lines[0]["spans"],
        json!([
            {"name": "request", "fields": {"method": "GET", "status": 200}},
            {"name": "load", "fields": {}},
        ])
    );
    let text = logged(log(spans(LogFormat::Text)), say);
    assert!(
        text.ends_with(" read spans=request{method=GET status=200}:load{}\n"),
        "{text}"
    );
}

#[test]
fn a_line_knows_the_trace_of_its_call() {
    let say = |_: &LogHandle| {
        let service = ServiceBuilder::new()
            .layer(TraceLayer::new())
            .service(service_fn(async |_: Request<()>| {
                tracing::info!("served");
                Ok::<_, BoxError>(Response::new(Body::empty()))
            }));
        let mut request = Request::builder()
            .header(
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )
            .body(())
            .unwrap();
        request.invocation_mut().set_request_id("r 1".into());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(service.oneshot(request)).unwrap();
        tracing::info!("outside");
    };
    let lines = parsed(&logged(log(config(LogFormat::Json)), say));
    assert_eq!(lines[0]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(lines[0]["span_id"].as_str().unwrap().len(), 16);
    assert_eq!(lines[0]["request_id"], "r 1");
    assert!(lines[1].get("trace_id").is_none() && lines[1].get("request_id").is_none());
    let text = logged(log(config(LogFormat::Text)), say);
    assert!(
        text.contains("served trace_id=0af7651916cd43dd8448eb211c80319c span_id="),
        "{text}"
    );
}

#[test]
fn the_level_is_live_by_target_and_a_wrong_one_changes_nothing() {
    let live = Live::new(LogPolicy::default());
    let text = logged(log(config(LogFormat::Text)).policy(live.clone()), |log| {
        tracing::debug!(target: "app::db", "1");
        log.set_level("warn,app::db=debug").unwrap();
        tracing::debug!(target: "app::db", "2");
        tracing::info!(target: "app", "3");
        for wrong in ["inof", "", "info,,warn", "app::db=loud", "info,app"] {
            assert!(log.set_level(wrong).is_err(), "{wrong}");
        }
        tracing::debug!(target: "app::db", "4");
        // As a configuration does that is loaded again.
        live.set(LogPolicy::new("trace").unwrap()).unwrap();
        tracing::trace!(target: "app", "5");
        assert_eq!(log.level(), "trace");
        live.set(LogPolicy::new("off").unwrap()).unwrap();
        tracing::error!(target: "app", "6");
    });
    let said: Vec<_> = text
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(said, ["2", "4", "5"]);
}

#[test]
fn the_environment_wins_until_somebody_says_otherwise() {
    let live = Live::new(LogPolicy::default());
    let environment = Some("app=debug".to_owned());
    let log = log(config(LogFormat::Text))
        .policy(live.clone())
        .environment(environment);
    let text = logged(log, |log| {
        assert!(log.is_fixed());
        tracing::debug!(target: "app", "1");
        live.set(LogPolicy::new("off").unwrap()).unwrap();
        tracing::debug!(target: "app", "2");
        log.set_level("error").unwrap();
        tracing::debug!(target: "app", "3");
        live.set(LogPolicy::new("debug").unwrap()).unwrap();
        tracing::debug!(target: "app", "4");
    });
    let said: Vec<_> = text
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(said, ["1", "2", "4"]);
}

#[test]
fn an_environment_that_cannot_be_read_is_said() {
    let log = log(config(LogFormat::Text)).environment(Some("app=loud".to_owned()));
    let text = logged(log, |log| {
        assert!(!log.is_fixed());
        tracing::info!(target: "app", "1");
    });
    assert!(
        text.starts_with("RUST_LOG cannot be read: ") && text.ends_with("app: 1\n"),
        "{text}"
    );
}

#[test]
fn colours_only_where_they_are_wanted() {
    let colored = |color| {
        let config = LogConfig {
            color,
            ..config(LogFormat::Text)
        };
        logged(log(config), |_| tracing::info!("x")).contains("\x1b[32m INFO\x1b[0m")
    };
    assert!(colored(Color::Always));
    assert!(!colored(Color::Never) && !colored(Color::Auto));
}

#[test]
fn faults_are_told_and_the_file_is_written() {
    let dir = std::env::temp_dir().join(format!("chassis-log-{}", std::process::id()));
    let file = RollingPolicy::at(dir.join("a.log")).config().clone();
    let to_file = LogConfig {
        output: LogOutput::File,
        file,
        ..LogConfig::default()
    };
    let mut wrong = to_file.clone();
    wrong.file.size = 1;
    let fault = log(wrong)
        .layer::<tracing_subscriber::Registry>()
        .map(drop)
        .unwrap_err();
    assert!(fault.is_setting());
    assert_eq!(fault.to_string(), "log: size must be from 1 KB to 1 TB");
    let mut wrong = to_file.clone();
    wrong.file.path = "/dev/null/a.log".into();
    let fault = log(wrong)
        .layer::<tracing_subscriber::Registry>()
        .map(drop)
        .unwrap_err();
    assert!(fault.is_file());

    let _alone = alone();
    let (layer, handle) = log(to_file).layer().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || tracing::info!(target: "app", "kept"));
    drop(handle);
    let text = std::fs::read_to_string(dir.join("a.log")).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    assert!(text.ends_with(" INFO app: kept\n"), "{text}");
}

#[test]
fn other_layers_may_write_to_an_output() {
    let _alone = alone();
    let written = Written::default();
    let output = Output::new(written.clone(), Bound::default());
    let handle = output.handle();
    let subscriber = tracing_subscriber::registry().with(
        tracing_subscriber::fmt::layer()
            .with_writer(output)
            .without_time(),
    );
    tracing::subscriber::with_default(subscriber, || tracing::info!(target: "app", "kept"));
    assert!(handle.flush_blocking(Duration::from_secs(30)));
    assert_eq!(handle.written(), 1);
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("kept"));
}

#[cfg(feature = "config")]
#[test]
fn it_is_read_from_a_configuration() {
    use tower_chassis_core::config::{Format, Loader};
    let text = "level: info,app=debug\nformat: json\noutput: file\nfile:\n  path: a.log\n  size: 1MB\n  age: 12h\n";
    let (_, read) = Loader::new()
        .text("log.yaml", Format::Yaml, text)
        .load_as::<LogConfig>()
        .unwrap();
    assert_eq!(
        (read.format, read.output),
        (LogFormat::Json, LogOutput::File)
    );
    assert_eq!(
        (read.file.size, read.file.age),
        (1_000_000, Duration::from_secs(43_200))
    );
}

/// Names are the programmer's, and any text.
#[test]
fn a_name_breaks_no_line() {
    let mut config = config(LogFormat::Text);
    config.spans = true;
    let text = logged(log(config), |_| {
        let _in = tracing::info_span!("a\nb").entered();
        tracing::info!(target: "c\nd\u{1b}[31m", "said");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}
