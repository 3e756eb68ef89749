//! To a collector that speaks TLS, whose authority the platform trusts or does not.
//!
//! What it trusts is said by `SSL_CERT_FILE`, which is read when a client is made: so the test runs itself again with it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::{
    super::{Misfit, Otlp, Protocol},
    SECOND,
    collector::Collector,
    policy, put, snapshot,
};

const DIRECTORY: &str = "CHASSIS_TEST_TLS";

/// An authority, and what it says of `localhost`.
struct Authority(PathBuf);

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Authority {
    fn new() -> Option<Self> {
        let name = format!("chassis-tls-{}", std::process::id());
        let made = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&made.0).unwrap();
        let key = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -batch";
        made.openssl(&format!(
            "{key} -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"
        ))?;
        made.openssl(&format!(
            "{key} -subj /CN=localhost -keyout key.pem -out asked.pem"
        ))?;
        let says = "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n";
        fs::write(made.0.join("says"), says).unwrap();
        made.openssl(
            "x509 -req -in asked.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile says -out cert.pem",
        )?;
        Some(made)
    }

    fn openssl(&self, arguments: &str) -> Option<()> {
        let mut openssl = Command::new("openssl");
        let openssl = openssl.args(arguments.split(' ')).current_dir(&self.0);
        match openssl.output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "openssl {arguments}: {said}");
                Some(())
            }
            Err(error) => {
                let required =
                    std::env::var("CHASSIS_PEERS").is_ok_and(|peers| peers == "required");
                assert!(!required, "no openssl: {error}");
                // Past the capture of the test runner.
                let _ = std::io::stderr().write_all(b"\nSKIPPED: no openssl\n");
                None
            }
        }
    }
}

fn acceptor(directory: &Path, protocol: Protocol) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    if protocol == Protocol::Grpc {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    TlsAcceptor::from(Arc::new(config))
}

async fn sent(directory: &Path, protocol: Protocol, trusted: bool) {
    let collector = Collector::default();
    let tls = Some(acceptor(directory, protocol));
    let any = ([127, 0, 0, 1], 0).into();
    let address = collector.listen_with(tls, protocol, any).await.address;
    let to = |host: &str| {
        let endpoint = format!("https://{host}:{}", address.port());
        Otlp::new(policy(|config| {
            config.endpoint = Some(endpoint);
            config.protocol = protocol;
            config.timeout = if trusted { 60 * SECOND } else { SECOND / 2 };
        }))
    };
    let (otlp, worker) = to("localhost");
    tokio::spawn(worker);
    otlp.metrics(snapshot);
    put(&otlp, 0..10);
    let flushed = otlp.flush(60 * SECOND).await;
    let misfits = otlp.check().await;
    let taken = collector.with(|got| (got.spans.len(), got.metrics.len()));
    if trusted {
        assert_eq!((flushed, misfits, taken), (Ok(()), vec![], (10, 3)));
        // The certificate is of another name.
        let (otlp, worker) = to("127.0.0.1");
        tokio::spawn(worker);
        told(&otlp.check().await, "certificate");
    } else {
        assert_eq!((flushed.unwrap_err().lost(), taken), (13, (0, 0)));
        told(&misfits, "certificate");
    }
}

fn told(misfits: &[Misfit], why: &str) {
    assert_eq!(misfits.len(), 2);
    // Of two that wait for one connection, one hears that it failed and not why.
    let texts: Vec<_> = misfits.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|text| text.contains(why)), "{texts:?}");
}

#[tokio::test]
async fn who_is_trusted_gets_it_over_tls_and_nobody_else() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
            sent(Path::new(&directory), protocol, true).await;
        }
        return;
    }
    let Some(authority) = Authority::new() else {
        return;
    };
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        sent(&authority.0, protocol, false).await;
    }
    let this = "otlp::tests::tls::who_is_trusted_gets_it_over_tls_and_nobody_else";
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this])
        .env(DIRECTORY, &authority.0)
        .env("SSL_CERT_FILE", authority.0.join("ca.pem"))
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(
        again.status.success() && said.contains("1 passed"),
        "{said}"
    );
}
