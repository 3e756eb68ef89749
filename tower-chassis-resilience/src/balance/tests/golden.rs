//! Numbers that others computed, or a model of their own in another language: Envoy's ring and maglev, nginx's ketama
//! and smooth rounds.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::Instant;
use twox_hash::XxHash64;

use super::{Rng, *};
use crate::balance::snapshot::{Plan, plan_of};

fn hosts(keys: impl IntoIterator<Item = String>, weights: &[u32]) -> Plan {
    let weights = weights.iter().copied().chain(std::iter::repeat(1));
    plan_of(keys.into_iter().zip(weights).map(|(key, weight)| {
        endpoint(&key.replace([':', '/'], "-"))
            .with_id(key)
            .with_weight(weight)
    }))
}

fn local(ports: std::ops::Range<u32>, weights: &[u32]) -> Plan {
    hosts(ports.map(|port| format!("127.0.0.1:{port}")), weights)
}

fn ten(count: u32, weights: &[u32]) -> Plan {
    hosts(
        (1..=count).map(|i| format!("http://10.0.0.{i}:80")),
        weights,
    )
}

/// Where a picker sends a hash.
fn at<P: Pick>(plan: &Plan, picker: &P, table: &P::Table, hash: u64) -> usize {
    let mut rng = Rng::seeded(1);
    plan.choose(
        (picker, table),
        Some(hash),
        None,
        &[],
        Instant::now(),
        &mut rng,
    )
    .unwrap()
}

const TEXTS: [&str; 4] = ["a", "user-1", "user-2", "/cart/42"];

fn at_texts<P: Pick>(plan: &Plan, picker: &P) -> Vec<usize> {
    let table = picker.table(&Members::new(plan));
    let hash = |text: &str| XxHash64::oneshot(0, text.as_bytes());
    TEXTS
        .map(|text| at(plan, picker, &table, hash(text)))
        .to_vec()
}

#[test]
fn the_ring_is_envoys() {
    let (plan, ring) = (local(90..96, &[]), Ring::new().points(2));
    let table = ring.table(&Members::new(&plan));
    assert_eq!(
        table.points(),
        [
            (833_437_586_790_550_860, 4),
            (928_266_305_478_181_108, 2),
            (1_033_482_794_131_418_490, 0),
            (3_551_244_743_356_806_947, 5),
            (3_851_675_632_748_031_481, 3),
            (5_583_722_120_771_150_861, 1),
            (6_311_230_543_546_372_928, 1),
            (7_700_377_290_971_790_572, 3),
            (13_144_177_310_400_110_813, 5),
            (13_444_792_449_719_432_967, 2),
            (15_516_499_411_664_133_160, 4),
            (16_117_243_373_044_804_889, 0),
        ]
    );
    for (hash, port) in [
        (0, 94),
        (u64::MAX, 94),
        (3_551_244_743_356_806_947, 95),
        (3_551_244_743_356_806_948, 93),
    ] {
        assert_eq!(at(&plan, &ring, &table, hash) + 90, port, "{hash}");
    }
}

#[test]
fn a_ring_has_the_points_that_weights_say_and_an_end() {
    let points = |weights: &[u32], ring: Ring| {
        let plan = local(90..90 + weights.len() as u32, weights);
        let points = ring.table(&Members::new(&plan)).points();
        (0..weights.len())
            .map(|i| points.iter().filter(|point| point.1 as usize == i).count())
            .collect::<Vec<_>>()
    };
    assert_eq!(points(&[1, 1], Ring::new()), [160, 160]);
    assert_eq!(points(&[1, 3, 0, 4], Ring::new()), [80, 240, 0, 320]);
    assert_eq!(points(&[1, 2], Ring::ketama()), [160, 320]);
    assert_eq!(points(&[1, 1_000_000], Ring::new()), [1, 320]);
    assert_eq!(points(&[1; 8], Ring::new().points(65_536)), [32_768; 8]);
    assert_eq!(points(&[u32::MAX, u32::MAX], Ring::ketama()), [131_072; 2]);
}

const NGINX: [(&str, u16); 5] = [
    ("/some/path", 7778),
    ("/some/longer/path", 7777),
    ("/sad/zaidoon", 7778),
    ("/g", 7777),
    ("/i/am/not/confident/in/this/code", 7777),
];

#[test]
fn ketama_is_nginxs() {
    let (plan, ring) = (
        local(7777..7779, &[]),
        Ring::ketama().hash_on([HashOn::path()]),
    );
    let table = ring.table(&Members::new(&plan));
    for (path, port) in NGINX {
        let request = Request::get(path).body(()).unwrap();
        let hash = ring.hash(&request).unwrap();
        assert_eq!(
            at(&plan, &ring, &table, hash) + 7777,
            usize::from(port),
            "{path}"
        );
    }
}

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: a\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// An nginx that hashes paths over three servers of its own, which say their port.
fn nginx(front: u16, ports: &[u16], weights: &[u32]) -> Option<(Nginx, tempdir::Dir)> {
    let dir = tempdir::Dir::new();
    let servers: String = ports
        .iter()
        .zip(weights)
        .map(|(port, weight)| format!("server 127.0.0.1:{port} weight={weight};"))
        .collect();
    let behind: String = ports
        .iter()
        .map(|port| format!("server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"port={port};\"; }} }}"))
        .collect();
    let path = dir.path();
    let conf = format!(
        "daemon off; master_process off; pid {path}/pid; error_log {path}/err; events {{}} http {{ access_log off;
        client_body_temp_path {path}/a; proxy_temp_path {path}/b; fastcgi_temp_path {path}/c; uwsgi_temp_path {path}/d;
        scgi_temp_path {path}/e; upstream u {{ hash $uri consistent; {servers} }}
        server {{ listen 127.0.0.1:{front}; location / {{ proxy_pass http://u; }} }} {behind} }}"
    );
    let file = format!("{path}/conf");
    std::fs::write(&file, conf).unwrap();
    let child = Command::new("nginx")
        .args(["-c", &file, "-e", &format!("{path}/err")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match child {
        Ok(child) => Some((Nginx(child), dir)),
        Err(error) if std::env::var("CHASSIS_PEERS").as_deref() == Ok("required") => {
            panic!("no nginx: {error}")
        }
        Err(error) => {
            eprintln!("SKIPPED: no nginx: {error}");
            None
        }
    }
}

mod tempdir {
    pub(super) struct Dir(std::path::PathBuf);

    impl Dir {
        pub(super) fn new() -> Self {
            let name = format!("chassis-nginx-{}-{}", std::process::id(), fastrand::u64(..));
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(super) fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[test]
fn a_live_nginx_sends_each_path_where_ketama_does() {
    let (front, ports) = (free_port(), [free_port(), free_port(), free_port()]);
    let weights = [1, 3, 2];
    let Some(_nginx) = nginx(front, &ports, &weights) else {
        return;
    };
    let up = (0..200).any(|_| {
        let up = get(front, "/").is_ok_and(|answer| answer.contains("port="));
        if !up {
            thread::park_timeout(Duration::from_millis(50));
        }
        up
    });
    assert!(up, "nginx does not answer");
    let plan = hosts(ports.map(|port| format!("127.0.0.1:{port}")), &weights);
    let ring = Ring::ketama().hash_on([HashOn::path()]);
    let table = ring.table(&Members::new(&plan));
    let mut seen = [0; 3];
    for number in 0..1_000 {
        let path = format!("/shop/{number}/cart");
        let answer = get(front, &path).unwrap();
        let hash = ring.hash(&Request::get(&*path).body(()).unwrap()).unwrap();
        let index = at(&plan, &ring, &table, hash);
        let port = ports[index];
        assert!(
            answer.contains(&format!("port={port};")),
            "{path}: {answer}"
        );
        seen[index] += 1;
    }
    assert!(seen.iter().all(|seen| *seen > 50), "{seen:?}");
}

fn maglev(plan: &Plan, size: u32) -> MaglevTable {
    Maglev::new().size(size).table(&Members::new(plan))
}

#[test]
fn maglev_is_envoys() {
    assert_eq!(
        maglev(&local(90..96, &[]), 7).places(),
        [2, 4, 0, 1, 5, 0, 3]
    );
    assert_eq!(
        maglev(&local(90..92, &[1, 2]), 17).places(),
        [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]
    );
    let rows: [(&[u32], [usize; 5], u64, [usize; 4]); 2] = [
        (
            &[],
            [13_108, 13_108, 13_107, 13_107, 13_107],
            8_165_481_769_551_793_231,
            [2, 4, 1, 3],
        ),
        (
            &[1, 2, 3, 4, 10],
            [3_277, 6_554, 9_831, 13_108, 32_767],
            15_060_319_883_321_621_248,
            [4, 4, 4, 3],
        ),
    ];
    for (weights, counts, hash, texts) in rows {
        let plan = ten(5, weights);
        let table = maglev(&plan, 65_537);
        let bytes: Vec<u8> = table.places().iter().map(|place| *place as u8).collect();
        assert_eq!(
            [0, 1, 2, 3, 4].map(|i| bytes.iter().filter(|byte| **byte == i).count()),
            counts
        );
        assert_eq!(XxHash64::oneshot(0, &bytes), hash);
        assert_eq!(at_texts(&plan, &Maglev::new()), texts);
        if weights.is_empty() {
            assert_eq!(bytes[..12], [4, 2, 1, 4, 2, 2, 4, 1, 3, 1, 3, 1]);
        }
    }
    assert_eq!(
        maglev(&ten(3, &[]), 1_000).places().len(),
        1_009,
        "the next prime"
    );
}

#[test]
fn rendezvous_draws_as_the_model() {
    assert_eq!(at_texts(&ten(5, &[]), &Rendezvous::new()), [1, 3, 3, 4]);
    assert_eq!(
        at_texts(&ten(5, &[1, 2, 3, 4, 10]), &Rendezvous::new()),
        [4, 3, 3, 4]
    );
}

#[test]
fn smooth_rounds_are_nginxs() {
    for (weights, wanted) in [
        (&[5, 1, 1][..], &[0, 0, 1, 0, 2, 0, 0][..]),
        (&[4, 2, 1], &[0, 1, 0, 2, 0, 1, 0]),
        (&[3, 0, 2], &[0, 2, 0, 2, 0]),
        (&[10, 2, 2], &[0, 0, 1, 0, 2, 0, 0]),
    ] {
        let plan = local(90..90 + weights.len() as u32, weights);
        let picker = SmoothRoundRobin::first();
        let table = picker.table(&Members::new(&plan));
        let mut rng = Rng::seeded(1);
        let picks: Vec<usize> = (0..wanted.len() * 2)
            .filter_map(|_| {
                plan.choose((&picker, &table), None, None, &[], Instant::now(), &mut rng)
            })
            .collect();
        assert_eq!(picks, [wanted, wanted].concat(), "{weights:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("CHASSIS_LONG").is_some() { 2_048 } else { 128 }))]

    /// Each has its turns, and never two more or fewer than its share of the round so far: also where the round is
    /// made in the other way.
    #[test]
    fn a_round_is_fair_at_every_turn(weights in prop::collection::vec(0_u32..40, 1..8)) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let plan = local(90..90 + weights.len() as u32, &weights);
        let table = SmoothRoundRobin::new().table(&Members::new(&plan));
        let raw: Vec<u64> = weights.iter().copied().map(u64::from).collect();
        let all: u64 = raw.iter().sum();
        for turns in [table.turns(), &Cycle::spread(&raw)] {
            let mut had = vec![0_u64; raw.len()];
            for (turn, index) in turns.iter().enumerate() {
                had[*index as usize] += 1;
                for (had, weight) in had.iter().zip(&raw) {
                    let share = (turn as f64 + 1.0) * *weight as f64 / all as f64;
                    prop_assert!((*had as f64 - share).abs() < 3.0, "{turns:?}");
                }
            }
            for (had, weight) in had.iter().zip(&raw) {
                prop_assert_eq!(*had * all, *weight * turns.len() as u64);
            }
        }
    }
}

#[test]
fn a_round_has_an_end() {
    let turns = |weights: &[u32]| {
        let plan = local(1..1 + weights.len() as u32, weights);
        SmoothRoundRobin::new()
            .table(&Members::new(&plan))
            .turns()
            .to_vec()
    };
    let long = turns(&[u32::MAX, 1, 0]);
    assert!(long.len() <= 65_537, "{}", long.len());
    assert_eq!(long.iter().filter(|index| **index == 1).count(), 1);
    let many: Vec<u32> = (0..3_000).map(|i| 1 + i % 2).collect();
    let many = turns(&many);
    assert_eq!(many.len(), 4_500);
    assert_eq!(many.iter().collect::<HashSet<_>>().len(), 3_000);
}

/// Who moves when one of the set goes: the share of all, and of those whose endpoint stayed.
fn moved<P: Pick>(picker: &P, count: u32, gone: u32) -> (f64, f64) {
    let plan = |without: u32| {
        let all = (1..=count).filter(|i| *i != without);
        hosts(all.map(|i| format!("http://10.0.0.{i}:80")), &[])
    };
    let (before, after) = (plan(0), plan(gone + 1));
    let (old, new) = (
        picker.table(&Members::new(&before)),
        picker.table(&Members::new(&after)),
    );
    let (mut all, mut others) = (0, 0);
    for number in 0..20_000_u64 {
        let hash = XxHash64::oneshot(0, &number.to_le_bytes());
        let was = at(&before, picker, &old, hash);
        let is = at(&after, picker, &new, hash);
        let id = |plan: &Plan, index: usize| plan.endpoints[index].key();
        if id(&before, was) != id(&after, is) {
            all += 1;
            others += u32::from(was != gone as usize);
        }
    }
    (f64::from(all) / 2e4, f64::from(others) / 2e4)
}

#[test]
fn few_requests_move_when_an_endpoint_goes() {
    for (count, gone) in [(3, 0), (3, 1), (10, 2), (100, 50)] {
        let bar = 2.0 / f64::from(count) + 0.01;
        let (all, _) = moved(&Maglev::new(), count, gone);
        assert!(all > 0.0 && all <= bar, "maglev {count}: {all}");
        for (all, others) in [
            moved(&Rendezvous::new(), count, gone),
            moved(&Ring::new(), count, gone),
            moved(&Ring::ketama(), count, gone),
        ] {
            assert!(all > 0.0 && all <= bar, "{count}: {all}");
            assert_eq!(others, 0.0, "{count}: only its own move");
        }
    }
}
