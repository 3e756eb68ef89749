use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::ServiceExt;

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// What a server of HTTP/2 says to a request.
#[derive(Clone, Copy, Debug)]
enum Says {
    Reset(u32),
    /// It goes away, after the request if it was `served`, and closes the connection.
    GoesAway {
        served: bool,
        code: u32,
    },
    Ok,
}

async fn send(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    stream.write_all(&frame).await.unwrap();
}

async fn serve(mut stream: TcpStream, says: Says) -> std::io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    send(&mut stream, SETTINGS, 0, 0, &[]).await;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4]) {
            (SETTINGS, 0) => send(&mut stream, SETTINGS, 1, 0, &[]).await,
            (HEADERS | DATA, flags) if flags & 1 != 0 => match says {
                Says::Reset(code) => {
                    send(&mut stream, RST_STREAM, 0, id, &code.to_be_bytes()).await;
                }
                Says::GoesAway { served, code } => {
                    let last = if served { id } else { 0 };
                    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
                    send(&mut stream, GOAWAY, 0, 0, &payload).await;
                    if served {
                        return Ok(());
                    }
                }
                // The status 200 of HPACK's static table; the end of the headers and of the stream.
                Says::Ok => send(&mut stream, HEADERS, 5, id, &[0x88]).await,
            },
            _ => {}
        }
    }
}

async fn server(says: Says) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, says));
        }
    });
    address
}

async fn ask(says: Says, body: &'static str) -> Result<u16, Kind> {
    let config = ClientConfig {
        http2: true,
        ..ClientConfig::default()
    };
    let client = Client::new(&config.try_into().unwrap());
    let uri = format!("http://{}/", server(says).await);
    let request = Request::post(uri).body(Body::from(body)).unwrap();
    match client.oneshot(request).await {
        Ok(response) => Ok(response.status().as_u16()),
        Err(error) => Err(Rejection::find(&*error).unwrap().kind()),
    }
}

#[tokio::test]
async fn what_a_server_did_not_look_at_was_not_served() {
    const REFUSED_STREAM: u32 = 7;
    for body in ["", "hello"] {
        for (says, outcome) in [
            (Says::Ok, Ok(200)),
            (Says::Reset(REFUSED_STREAM), Err(Kind::Unreachable)),
            // INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM: it may have been served.
            (Says::Reset(2), Err(Kind::Reset)),
            (Says::Reset(8), Err(Kind::Reset)),
            (Says::Reset(11), Err(Kind::Reset)),
        ] {
            assert_eq!(ask(says, body).await, outcome, "{says:?} {body}");
        }
        for code in [0, 11] {
            for (served, kind) in [(false, Kind::Unreachable), (true, Kind::Reset)] {
                let says = Says::GoesAway { served, code };
                assert_eq!(ask(says, body).await, Err(kind), "{says:?} {body}");
            }
        }
    }
}
