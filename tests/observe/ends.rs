//! The table: how a call ends, and what is told of it.

use std::fmt::Debug;

use crate::{
    asks::{Stays, ask},
    seen::{Fields, Outcome, Seen},
    servers::{On, RPC_TEMPLATE, TEMPLATE, Wire, serve},
};

/// What the outputs tell of a call.
#[derive(Clone, Copy)]
struct Told {
    status: Option<u16>,
    /// The status of gRPC, by number and name.
    code: Option<(u16, &'static str)>,
    error: Option<&'static str>,
    class: &'static str,
    level: &'static str,
    /// Of the response's body.
    bytes: u64,
}

/// One end.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    /// The last part of the path: [`crate::app`] ends so.
    end: &'static str,
    pub(crate) sends: &'static str,
    pub(crate) stays: Stays,
    told: Told,
    /// So many bytes on HTTP/2 where the server is not ours: hyper leaves it to the service that an answer has no content.
    left_to_service: Option<u64>,
    /// It cannot be everywhere, because …
    only: Only,
}

#[derive(Clone, Copy)]
enum Only {
    Everywhere,
    /// On this wire, for a reason.
    Wire(
        Wire,
        #[allow(dead_code, reason = "for who reads the table")] &'static str,
    ),
    /// Not under tonic's server, where the stack is around a service of gRPC, and on HTTP/2.
    Rpc,
    /// The same, where our layers are outside of all that could catch a panic; tonic has nothing in between.
    Bare,
}

impl Row {
    pub(crate) const fn is_rpc(&self) -> bool {
        matches!(self.only, Only::Rpc)
    }

    pub(crate) fn path(&self) -> String {
        match self.is_rpc() {
            true => format!("/ends.Ends/{}", self.end),
            false => format!("/ends/{}", self.end),
        }
    }

    fn is_on(&self, on: On, wire: Wire) -> bool {
        match self.only {
            Only::Rpc => wire == Wire::Two,
            Only::Wire(only, _) => on != On::Tonic && wire == only,
            Only::Everywhere | Only::Bare => on != On::Tonic,
        }
    }

    const fn wire(mut self, wire: Wire, why: &'static str) -> Self {
        self.only = Only::Wire(wire, why);
        self
    }

    const fn method(mut self, method: &'static str, sends: &'static str) -> Self {
        self.method = method;
        self.sends = sends;
        self
    }

    const fn stays(mut self, stays: Stays) -> Self {
        self.stays = stays;
        self
    }

    const fn left_to_service(mut self, bytes: u64) -> Self {
        self.left_to_service = Some(bytes);
        self
    }

    const fn bare(mut self) -> Self {
        self.only = Only::Bare;
        self
    }

    /// What is told of it under a server.
    fn expected(&self, on: On, wire: Wire) -> Outcome {
        let Told {
            status,
            code,
            error,
            class,
            level,
            bytes,
        } = self.told;
        let bytes = match self.left_to_service {
            Some(bytes) if on != On::Ours && wire == Wire::Two => bytes,
            _ => bytes,
        };
        let rpc = self.is_rpc();
        let (path, version) = (self.path(), wire.to_string());
        let template = if rpc { RPC_TEMPLATE } else { TEMPLATE };
        let route = match (on, self.only) {
            // It has matched before our layers are asked.
            (On::Axum, _) => cfg!(feature = "axum").then_some(template),
            (On::Tonic, _) | (_, Only::Bare) => None,
            _ => Some(template),
        };
        let status = status.map(|status| status.to_string());
        let status = status.as_deref();
        let name = code.map(|(_, name)| name);
        let code = code.map(|(code, _)| code.to_string());

        // A method is known to the metrics once it was served, and to the span if it has answered.
        let operation = path.strip_prefix('/').unwrap();
        let served = name.is_some() && matches!(class, "success" | "client-fault" | "failure");
        let series = match rpc {
            true => labels(
                "rpc_server_call",
                &[
                    ("error_type", error),
                    (
                        "rpc_method",
                        Some(if served { operation } else { "_OTHER" }),
                    ),
                    ("rpc_response_status_code", name),
                    ("rpc_system_name", Some("grpc")),
                ],
            ),
            false => labels(
                "http_server_request",
                &[
                    ("error_type", error),
                    ("http_request_method", Some(self.method)),
                    ("http_response_status_code", status),
                    ("http_route", Some(route.unwrap_or("unmatched"))),
                    ("network_protocol_version", Some(&version)),
                    ("url_scheme", Some("http")),
                ],
            ),
        };

        let failed = error.is_some_and(|error| error != "cancelled").to_string();
        let mut span = vec![
            ("kind", Some("server")),
            ("failed", Some(&*failed)),
            ("error.type", error),
            ("http.route", route),
            ("network.protocol.version", Some(&*version)),
        ];
        let known = name.map(|_| operation);
        let title = match (rpc, route) {
            (true, _) => known.unwrap_or("grpc").to_owned(),
            (false, Some(route)) => format!("{} {route}", self.method),
            (false, None) => self.method.to_owned(),
        };
        span.push(("name", Some(&title)));
        match rpc {
            true => span.extend([
                ("rpc.system.name", Some("grpc")),
                ("rpc.method", Some(known.unwrap_or("_OTHER"))),
                ("rpc.method_original", known.is_none().then_some(&*path)),
                ("rpc.response.status_code", name),
            ]),
            false => span.extend([
                ("http.request.method", Some(self.method)),
                ("http.response.status_code", status),
                ("url.path", Some(&path)),
                ("url.scheme", Some("http")),
            ]),
        }

        let (sent, received) = (bytes.to_string(), self.sends.len().to_string());
        let protocol = format!("HTTP/{}", if version == "2" { "2.0" } else { "1.1" });
        let both = [
            ("method", Some(self.method)),
            ("route", route),
            ("class", Some(class)),
            ("status", status),
            ("grpc", code.as_deref()),
        ];
        let line = [
            ("path", Some(&*path)),
            ("level", Some(level)),
            ("bytes", Some(&sent)),
            ("request_bytes", Some(&received)),
            ("protocol", Some(&protocol)),
        ];
        let record = [("sent", Some(&*sent)), ("received", Some(&received))];
        let audited = self.method != "GET" || class != "success";
        Outcome {
            durations: vec![series],
            sizes: (u64::from(status.is_some()), bytes),
            spans: vec![fields(&span)],
            lines: vec![fields(&[&both[..], &line].concat())],
            records: audited
                .then(|| fields(&[&both[..], &record].concat()))
                .into_iter()
                .collect(),
            settled: 1,
            open: vec![],
        }
    }
}

pub(crate) fn fields(told: &[(&str, Option<&str>)]) -> Fields {
    let there = told
        .iter()
        .filter_map(|(name, value)| Some((name, (*value)?)));
    there
        .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
        .collect()
}

/// A series of one call, as [`crate::seen::durations`] writes it.
pub(crate) fn labels(name: &str, labels: &[(&str, Option<&str>)]) -> String {
    let mut series = name.to_owned();
    for (name, value) in labels {
        if let Some(value) = value {
            series += &format!(" {name}={value}");
        }
    }
    series + " 1"
}

const fn http(
    name: &'static str,
    end: &'static str,
    status: Option<u16>,
    error: Option<&'static str>,
    [class, level]: [&'static str; 2],
    bytes: u64,
) -> Row {
    Row {
        name,
        method: "GET",
        end,
        sends: "",
        stays: Stays::ToTheEnd,
        told: Told {
            status,
            code: None,
            error,
            class,
            level,
            bytes,
        },
        left_to_service: None,
        only: Only::Everywhere,
    }
}

const fn rpc(
    name: &'static str,
    end: &'static str,
    code: Option<(u16, &'static str)>,
    error: Option<&'static str>,
    [class, level]: [&'static str; 2],
    bytes: u64,
) -> Row {
    // Five bytes of a message that is empty.
    let sends = "\0\0\0\0\0";
    let mut row = http(name, end, Some(200), error, [class, level], bytes).method("POST", sends);
    row.told.code = code;
    row.only = Only::Rpc;
    row
}

const fn no_head(mut row: Row) -> Row {
    row.told.status = None;
    row
}

const GOOD: [&str; 2] = ["success", "info"];
const WRONG: [&str; 2] = ["client-fault", "warn"];
const BAD: [&str; 2] = ["failure", "error"];
const LATE: [&str; 2] = ["timeout", "error"];
const LEFT: [&str; 2] = ["cancelled", "info"];
const OTHER: Option<&str> = Some("_OTHER");
const CANCELLED: Option<&str> = Some("cancelled");
const OWN_PROTOCOL: &str = "HTTP/2 does not switch: it has 200 and extended CONNECT";
const NO_CONTINUE: &str = "a client of HTTP/2 does not ask before it sends";
/// What `RescueLayer` answers.
const INTERNAL: &str =
    r#"{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"internal"}"#;
const TIMEOUT: &str =
    r#"{"type":"about:blank","title":"Gateway Timeout","status":504,"detail":"timeout"}"#;

#[rustfmt::skip]
const ROWS: [Row; 33] = [
    http("success", "plain", Some(200), None, GOOD, 5),
    http("not found", "missing", Some(404), None, WRONG, 2),
    http("answers 500", "broken", Some(500), Some("500"), BAD, 2),
    http("fails", "fails", Some(500), Some("500"), BAD, INTERNAL.len() as u64),
    http("HEAD", "plain", Some(200), None, GOOD, 0).method("HEAD", "").left_to_service(5),
    http("HEAD of a stream", "streams", Some(200), None, GOOD, 0).method("HEAD", "").left_to_service(4),
    http("304", "same", Some(304), None, GOOD, 0),
    http("304 of a handler that gives a body", "same-with-body", Some(304), None, GOOD, 0).left_to_service(5),
    http("204", "none", Some(204), None, GOOD, 0),
    http("sends a body", "echo", Some(200), None, GOOD, 5).method("POST", "hello"),
    http("100 Continue", "echo", Some(200), None, GOOD, 5).method("POST", "hello").stays(Stays::Asks)
        .wire(Wire::One, NO_CONTINUE),
    http("a stream that ends", "streams", Some(200), None, GOOD, 4),
    http("a stream whose length is in a header", "tells-its-length", Some(200), None, GOOD, 4),
    http("a body that knows its length", "knows-its-length", Some(200), None, GOOD, 4),
    http("a stream that breaks", "breaks", Some(200), OTHER, BAD, 4),
    http("a panic before the head", "panics", Some(500), Some("500"), BAD, INTERNAL.len() as u64),
    no_head(http("a panic that nobody catches", "panics-outside", None, OTHER, BAD, 0).bare()),
    http("a panic in the body", "panics-in-body", Some(200), OTHER, BAD, 4),
    http("a timeout inside", "late", Some(504), Some("timeout"), LATE, TIMEOUT.len() as u64),
    http("the client leaves before the head", "waits", None, CANCELLED, LEFT, 0).stays(Stays::NoHead),
    http("the client leaves a POST before the head", "waits", None, CANCELLED, LEFT, 0).method("POST", "hello")
        .stays(Stays::NoHead),
    http("the client leaves in the middle", "stalls", Some(200), CANCELLED, LEFT, 4).stays(Stays::Midway),
    http("switches protocols", "switches", Some(101), None, GOOD, 0).stays(Stays::Switches)
        .wire(Wire::One, OWN_PROTOCOL),

    rpc("gRPC, OK", "Ok", Some((0, "OK")), None, GOOD, 4),
    rpc("gRPC, NOT_FOUND", "NotFound", Some((5, "NOT_FOUND")), None, WRONG, 4),
    rpc("gRPC, UNAVAILABLE", "Unavailable", Some((14, "UNAVAILABLE")), Some("UNAVAILABLE"), BAD, 4),
    rpc("gRPC, trailers only", "Refuses", Some((14, "UNAVAILABLE")), Some("UNAVAILABLE"), BAD, 0),
    rpc("gRPC without a status", "Silent", Some((2, "UNKNOWN")), Some("UNKNOWN"), BAD, 4),
    rpc("gRPC, the body breaks", "Breaks", None, OTHER, BAD, 4),
    rpc("gRPC, a timeout inside", "Late", Some((4, "DEADLINE_EXCEEDED")), Some("timeout"), LATE, 0),
    no_head(rpc("gRPC, reset before the head", "Waits", None, CANCELLED, LEFT, 0).stays(Stays::NoHead)),
    rpc("gRPC, reset in the middle", "Stalls", None, CANCELLED, LEFT, 4).stays(Stays::Midway),
    rpc("gRPC, an error of the handler", "fails", Some((13, "INTERNAL")), Some("INTERNAL"), BAD, 0),
];

/// Every row that can be there, each on a server of its own; all that is wrong is said at once.
async fn all(on: On, wire: Wire) {
    let mut wrong = Vec::new();
    let rows = ROWS.iter().filter(|row| row.is_on(on, wire));
    let mut count = 0;
    for row in rows {
        count += 1;
        let (seen, observers, app) = Seen::new(on);
        let (address, serving) = serve(on, observers, app, &seen.events).await;
        let left = ask(wire, address, row, &seen).await;
        seen.over().await;
        let outcome = seen.outcome();
        drop(left);
        seen.closed().await;
        let expected = row.expected(on, wire);
        let mut differs = |what: &str, got: &dyn Debug, expected: &dyn Debug| {
            let (got, expected) = (format!("{got:?}"), format!("{expected:?}"));
            if got != expected {
                let name = row.name;
                wrong.push(format!("{name}: {what}\n   got {got}\n  want {expected}"));
            }
        };
        differs("durations", &outcome.durations, &expected.durations);
        differs("sizes", &outcome.sizes, &expected.sizes);
        differs("spans", &outcome.spans, &expected.spans);
        differs("lines", &outcome.lines, &expected.lines);
        differs("records", &outcome.records, &expected.records);
        differs("settled", &outcome.settled, &expected.settled);
        differs("open", &outcome.open, &expected.open);
        differs("afterwards", &seen.outcome(), &outcome);
        drop(serving);
    }
    assert!(count > 5, "{count} rows");
    assert!(
        wrong.is_empty(),
        "{on:?}, HTTP/{wire}\n{}",
        wrong.join("\n")
    );
}

#[tokio::test]
async fn our_server_on_http1() {
    all(On::Ours, Wire::One).await;
}

#[tokio::test]
async fn our_server_on_http2() {
    all(On::Ours, Wire::Two).await;
}

#[tokio::test]
async fn hyper_on_http1() {
    all(On::Hyper, Wire::One).await;
}

#[tokio::test]
async fn hyper_on_http2() {
    all(On::Hyper, Wire::Two).await;
}

#[tokio::test]
async fn axum_on_http1() {
    all(On::Axum, Wire::One).await;
}

#[tokio::test]
async fn axum_on_http2() {
    all(On::Axum, Wire::Two).await;
}

#[tokio::test]
async fn tonic_on_http2() {
    all(On::Tonic, Wire::Two).await;
}
