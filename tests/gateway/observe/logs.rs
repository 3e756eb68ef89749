//! The access log and the gateway's own.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{LIMIT, SOON, ask, file, rewrite, says, value};
use crate::{
    load::Client,
    process::{Dir, Gateway, Process, Upstream, bounded, eventually},
};

const ACCESS_LOST: &str = "chassis_telemetry_lost_total{signal=\"access_log\"}";
const LOG_LOST: &str = "chassis_telemetry_lost_total{signal=\"log\"}";

fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    whole.lines().map(parse).collect()
}

#[tokio::test]
async fn access_log_rolls_and_keeps_so_many() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let folder = dir.path().join("logs");
        let head = format!(
            "log:\n  access:\n    format: json\n    output: file\n    query: full\n    file: {{ path: {}/access.log, \
             size: 4KB, backups: 2, compress: true }}\n",
            folder.display()
        );
        let gateway = Gateway::start(&dir, &file(&head, "", &[upstream.address.port()])).await;
        let client = Client::new(gateway.address);
        ask(&client, "/first?page=2&token=geheim", 1).await;
        let current = folder.join("access.log");
        let first = eventually("a line", SOON, async || json_lines(&current).pop()).await;
        assert_eq!(
            (&first["path"], &first["status"], &first["route"]),
            (&"/first?page=2&token=***".into(), &200.into(), &"/*".into()),
            "{first}"
        );
        ask(&client, "/more", 100).await;
        let rolled = || {
            let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            let mut rolled: Vec<_> = names.filter(|path| *path != current).collect();
            rolled.sort();
            rolled
        };
        eventually("two rolled files, compressed", SOON, async || {
            let rolled = rolled();
            let zipped = |path: &std::path::PathBuf| {
                path.extension().is_some_and(|end| end == "gz")
                    && fs::read(path).is_ok_and(|bytes| bytes.starts_with(&[0x1f, 0x8b]))
            };
            (rolled.len() == 2 && rolled.iter().all(zipped)).then_some(())
        })
        .await;
        assert!(fs::metadata(&current).unwrap().len() <= 4_000);
        assert!(json_lines(&current).iter().all(|line| line["path"] == "/more"));
        let said = gateway.process.stderr();
        assert!(!said.contains("/more"), "the access log is elsewhere: {said}");
        assert_eq!(value(&gateway, ACCESS_LOST).await, Some(0.0));
    })
    .await;
}

/// Fails where a disk that is full is waited for, or what was lost on it is not counted.
#[tokio::test]
async fn full_disk_costs_lines_and_no_request() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let full = "output: file, file: { path: /dev/full, rotate: false }";
        let head = format!("log: {{ access: {{ {full} }} }}\n");
        let gateway = Gateway::start(&dir, &file(&head, "", &[upstream.address.port()])).await;
        let client = Client::new(gateway.address);
        let begun = Instant::now();
        ask(&client, "/", 300).await;
        assert!(begun.elapsed() < SOON, "it waited: {:?}", begun.elapsed());
        eventually("each line that was lost is counted", SOON, async || {
            (value(&gateway, ACCESS_LOST).await == Some(300.0)).then_some(())
        })
        .await;
        assert_eq!(value(&gateway, LOG_LOST).await, Some(0.0));

        let head = format!("log: {{ access: off, {full} }}\n");
        let gateway = Gateway::start(&dir, &file(&head, "", &[upstream.address.port()])).await;
        ask(&Client::new(gateway.address), "/", 10).await;
        eventually("the line of the start is counted", SOON, async || {
            (value(&gateway, LOG_LOST).await >= Some(1.0)).then_some(())
        })
        .await;
        assert_eq!(value(&gateway, ACCESS_LOST).await, Some(0.0));
    })
    .await;
}

/// Fails where whoever reads standard error holds requests up by not reading it.
#[tokio::test]
async fn nobody_has_to_read_standard_error() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let yaml = dir.write("gateway.yaml", &file("", "", &[upstream.address.port()]));
        let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let args = [&["run", "--config", yaml.to_str().unwrap()], &listen[..]].concat();
        let (reader, writer) = std::io::pipe().unwrap();
        let process = Process::spawn_with(&dir, "unread", &args, Stdio::from(writer));
        let mut gateway = Gateway::ready(process).await;
        let client = Client::new(gateway.address);
        // A pipe holds 64 KiB, a line has some 250 bytes.
        let asked = timeout(SOON, ask(&client, "/", 1_000)).await;
        assert!(asked.is_ok(), "requests wait for a reader");
        // Nor does the end wait for one for ever.
        gateway.process.signal("INT");
        assert_eq!(gateway.process.ended(SOON).await, Some(0));
        drop(reader);
    })
    .await;
}

#[tokio::test]
async fn levels_and_formats_change_while_it_runs() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let port = upstream.address.port();
        let yaml = |log: &str| file(&format!("log: {{ {log} }}\n"), "", &[port]);
        let gateway = Gateway::start(
            &dir,
            &yaml("level: error, access: { format: text, skip: [/*] }"),
        )
        .await;
        let client = Client::new(gateway.address);
        ask(&client, "/skipped", 1).await;

        rewrite(&dir, &gateway, 2, &yaml("level: info, access: json")).await;
        eventually("lines are JSON", SOON, async || {
            ask(&client, "/json", 1).await;
            let said = gateway.process.stderr();
            said.contains(r#""path":"/json""#).then_some(())
        })
        .await;
        // The change that brings the level is told by the old one; the next by the new one.
        rewrite(
            &dir,
            &gateway,
            3,
            &yaml("level: info, access: { format: json, successes: 0 }"),
        )
        .await;
        says(&gateway.process, "configuration applied version=3").await;
        let said = gateway.process.stderr();
        assert!(
            !said.contains("version=1") && !said.contains("/skipped"),
            "{said}"
        );
        eventually("successes have no line", SOON, async || {
            ask(&client, "/quiet", 1).await;
            let written = gateway.process.stderr();
            ask(&client, "/last", 1).await;
            // Both would be there by the line of a failure.
            let failed = client.get("/fail?status=500").await.unwrap();
            assert_eq!(failed.status, 500);
            says(&gateway.process, r#""path":"/fail""#).await;
            let now = gateway.process.stderr();
            (!now[written.len()..].contains("/last")).then_some(())
        })
        .await;

        rewrite(
            &dir,
            &gateway,
            4,
            &yaml("format: json, access: { output: stdout }"),
        )
        .await;
        for section in [
            "log.format, output, file, color, spans",
            "log.access.query, output, file",
        ] {
            says(&gateway.process, &format!("section=\"{section}\"")).await;
        }
    })
    .await;
}
