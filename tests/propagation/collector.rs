//! A receiver of OTLP: tonic's server, which reads of its messages what it needs by itself, as another language would.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use tokio::net::TcpListener;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, NamedService},
    transport::server::TcpIncoming,
};
use tower::{Service, service_fn};

/// What has arrived.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<Received>>>);

/// A span, as it was on the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty where there is none.
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) is_server: bool,
    pub(crate) is_error: bool,
    pub(crate) has_remote_parent: bool,
    pub(crate) began: u64,
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Collector {
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(self.clone())
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        address
    }

    pub(crate) fn spans(&self) -> Vec<Received> {
        let mut spans = self.0.lock().unwrap().clone();
        spans.sort_by_key(|span| span.began);
        spans
    }

    /// `ExportTraceServiceRequest`.
    fn read(&self, message: &[u8]) {
        for of_resource in members(message, 1) {
            let resource = members(of_resource, 1).flat_map(attributes_of(1));
            let resource: BTreeMap<_, _> = resource.collect();
            for of_scope in members(of_resource, 2) {
                for span in members(of_scope, 2) {
                    let mut span = Received::read(span);
                    span.service = resource["service.name"].clone();
                    self.0.lock().unwrap().push(span);
                }
            }
        }
    }
}

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl Service<http::Request<tonic::body::Body>> for Collector {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let collector = self.clone();
        Box::pin(async move {
            assert!(request.uri().path().ends_with("/Export"));
            let export = service_fn(move |request: tonic::Request<Bytes>| {
                collector.read(&request.into_inner());
                std::future::ready(Ok::<_, Status>(tonic::Response::new(Bytes::new())))
            });
            Ok(Grpc::new(Raw).unary(export, request).await)
        })
    }
}

/// Messages as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A field of a message of protobuf.
#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = message.get_u8();
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

/// All fields, with their numbers.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        if message.is_empty() {
            return None;
        }
        let tag = varint(&mut message);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => Field::Number(message.get_u64_le()),
            5 => Field::Number(message.get_u32_le().into()),
            2 => {
                let length = usize::try_from(varint(&mut message)).unwrap();
                let (field, rest) = message.split_at(length);
                message = rest;
                Field::Bytes(field)
            }
            kind => panic!("wire type {kind}"),
        };
        Some((tag >> 3, field))
    })
}

/// The fields of one number that are messages or texts.
fn members(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).filter_map(move |(is, field)| match field {
        Field::Bytes(bytes) if is == number => Some(bytes),
        _ => None,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `KeyValue`s of a message, whose values are texts or whole numbers.
fn attributes_of(number: u64) -> impl Fn(&[u8]) -> Vec<(String, String)> {
    move |message| {
        let pairs = members(message, number).map(|pair| {
            let key = members(pair, 1).map(text).next().unwrap();
            let value = members(pair, 2).flat_map(fields).next();
            let value = match value {
                Some((1, Field::Bytes(value))) => text(value),
                Some((3, Field::Number(value))) => value.to_string(),
                _ => String::new(),
            };
            (key, value)
        });
        pairs.collect()
    }
}

impl Received {
    /// `Span`.
    fn read(message: &[u8]) -> Self {
        let mut span = Self {
            attributes: attributes_of(9)(message).into_iter().collect(),
            ..Self::default()
        };
        for (number, field) in fields(message) {
            match (number, field) {
                (1, Field::Bytes(id)) => span.trace = hex(id),
                (2, Field::Bytes(id)) => span.id = hex(id),
                (3, Field::Bytes(state)) => span.state = text(state),
                (4, Field::Bytes(id)) => span.parent = hex(id),
                (5, Field::Bytes(name)) => span.name = text(name),
                (6, Field::Number(kind)) => span.is_server = kind == 2,
                (7, Field::Number(nanos)) => span.began = nanos,
                (15, Field::Bytes(status)) => {
                    let is_error =
                        |(number, field)| matches!((number, field), (3, Field::Number(2)));
                    span.is_error = fields(status).any(is_error);
                }
                (16, Field::Number(flags)) => span.has_remote_parent = flags & 0x200 != 0,
                _ => {}
            }
        }
        span
    }
}
