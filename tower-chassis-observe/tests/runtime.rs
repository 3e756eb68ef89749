//! What the runtime and the process say of themselves, as Prometheus reads it.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

use std::{
    collections::HashMap,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use tower_chassis_observe::{
    metrics::RecorderHandle,
    process,
    prometheus::Prometheus,
    runtime::{self, AllocatorStats},
};

fn values(text: &str) -> HashMap<&str, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, value)| (series, value.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sampled_is_true_and_clean() {
    let handle = Prometheus::new();
    let to = RecorderHandle::from(handle.recorder());
    let tasks: Vec<_> = (0..3)
        .map(|_| tokio::spawn(std::future::pending::<()>()))
        .collect();
    // A worker that is busy for a while.
    let busy = tokio::spawn(async {
        let until = tokio::time::Instant::now() + Duration::from_millis(50);
        while tokio::time::Instant::now() < until {
            std::hint::spin_loop();
        }
    });
    busy.await.unwrap();
    // Joined is not yet gone.
    let metrics = tokio::runtime::Handle::current().metrics();
    while metrics.num_alive_tasks() > 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let kept = std::fs::File::open("/proc/self/status");
    let stats = AllocatorStats {
        allocated: Some(1 << 20),
        resident: Some(2 << 20),
        ..AllocatorStats::default()
    };
    for _ in 0..2 {
        runtime::sample(&tokio::runtime::Handle::current(), to.clone());
        runtime::allocator(stats, to.clone());
        process::sample(to.clone());
    }
    let text = handle.render();
    let all = values(&text);
    assert_eq!(all["chassis_runtime_workers"], 2.0);
    assert_eq!(all["chassis_runtime_alive_tasks"], 3.0);
    assert!(all["chassis_runtime_worker_parks_total{worker=\"0\"}"] >= 0.0);
    let worked = all["chassis_runtime_worker_busy_seconds{worker=\"0\"}"]
        + all["chassis_runtime_worker_busy_seconds{worker=\"1\"}"];
    assert!((0.04..5.0).contains(&worked), "{worked}");
    assert_eq!(
        all["chassis_allocator_bytes{kind=\"resident\"}"],
        2_097_152.0
    );
    assert!(!text.contains("mapped"));
    if cfg!(target_os = "linux") {
        assert!(all["process_resident_memory_bytes"] > 1e6);
        assert!(all["process_virtual_memory_bytes"] >= all["process_resident_memory_bytes"]);
        assert!(all["process_threads"] >= 3.0);
        assert!(all["process_open_fds"] >= 4.0 && all["process_open_fds"] < all["process_max_fds"]);
        assert!(all["process_cpu_seconds_total"] < 600.0);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let age = now.as_secs_f64() - all["process_start_time_seconds"];
        assert!((-2.0..600.0).contains(&age), "started {age} s ago");
        let open = all["process_open_fds"];
        let more: Vec<_> = (0..5)
            .map(|_| std::fs::File::open("/proc/self/status"))
            .collect();
        process::sample(to.clone());
        let then = values(&handle.render())["process_open_fds"];
        assert!(
            (then - open - 5.0).abs() < 3.0,
            "{open} and five more are {then}"
        );
        drop(more);
    }
    drop(kept);
    promtool(&text);
    for task in tasks {
        task.abort();
    }
}

/// `promtool check metrics`, where it is installed.
fn promtool(text: &str) {
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else {
        let required = std::env::var("CHASSIS_PEERS").is_ok_and(|peers| peers == "required");
        assert!(!required, "no promtool");
        eprintln!("SKIPPED: no promtool");
        return;
    };
    tool.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let out = tool.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && said.trim().is_empty(),
        "{said}\n{text}"
    );
}
