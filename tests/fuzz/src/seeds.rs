//! Every target on its seeds and on mutations of them: on stable, in seconds, the same each time.
//!
//! `CHASSIS_LONG=1` takes a hundred times as many.

use std::panic::catch_unwind;

use crate as fuzz;

const GATEWAY: &str = include_str!("../../../examples/gateway/gateway.yaml");

const YAML: &[&str] = &[
    GATEWAY,
    "",
    "a: &x [1, 2]\nb: *x\n",
    "services: {shop: {endpoints: [{address: 'http://127.0.0.1:1', tags: {version: v1}}]}}\n",
    "routes:\n- {path: '/{id:[0-9]+}', service: shop, rate_limit: {rate: 1e3, burst: 10, per: 1m}}\n",
    "gateway: {listen: [127.0.0.1:0, 'unix:/tmp/x']}\nlog: {access: json}\n",
    "a: |\n  text\n  more\nb: >-\n  folded\n",
    "? [complex, key]\n: value\n<<: {a: 1}\n",
    "s: \"\\u0000\\x1b[31m\\U0001F600\"\n",
    "server: {max_head: 1KiB, idle_timeout: 1h 30m, header_read_timeout: -1s}\n",
    "%YAML 1.2\n--- !!map\na: !!str 1\n...\n---\nb: 2\n",
    "a: [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]\n",
    "n: [0x1f, 0o17, 1e400, .nan, -.inf, ~, yes, 123456789012345678901234567890]\n",
];

const TOML: &[&str] = &[
    "",
    "[gateway]\nlisten = \"127.0.0.1:0\"\n[[routes]]\npath = \"/*\"\nservice = \"shop\"\n",
    "[services.shop]\nendpoints = [{ address = \"http://127.0.0.1:1\", weight = 2 }]\nconnect_timeout = \"1s\"\n",
    "a.b.c = 1\n\"d.e\" = 2\nf = 1979-05-27T07:32:00Z\n",
    "s = '''\nraw\n'''\nt = \"\"\"\n\\u00e9 \\\n  folded\"\"\"\n",
    "n = [0x1f, 0o17, 0b1, 1e400, nan, -inf, 9223372036854775807]\n",
    "[a]\n[a]\nb = 1\n",
];

const TRACEPARENT: &[&str] = &[
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-later",
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
];

const GRPC_TIMEOUT: &[&str] = &["1H", "99999999M", "0m", "250u", "12345678n", "1", "S", "5é"];

const ROUTE_PATTERN: &[&str] = &[
    "/\n/",
    "/users/{id}\n/users/7",
    "/users/{id:[0-9]+}/x\n/users/007/x",
    "/{file}.{ext}\n/photos.tar.gz",
    "/img-{n}.png\n/img-.png",
    "/files/{*rest}\n/files/a/b?q",
    "/api*\n/apix/y",
    "/%61%2f{a:(b|c){2}}\n/a%2Fbc",
    "/{a}-{b}-{c}-{d}\n/1-2-3-4-5-6-7-8",
    "/{id:\\d{1,3}}\n/%c3%a9",
    "/{\n/",
    "//{a}//\n//x//",
    "/{a}%a9\n/xé",
    "/x%c3\n/xé/rest",
    "/{a}/b\n*",
    "/a\nhttp://host/a?q#f",
];

const ROUTE_TABLE: &[&str] = &[
    "GET /\n\nGET /",
    "GET /users/me\nPUT /users/{id}\nDELETE /users/*\n\nPUT /users/me",
    "GET /a/{x}/c\nGET /{y}/b/d\n* /*\n\nGET /a/b/d",
    "GET /{a}-{b}\nGET /{c:[0-9]+}-{d}\nGET /{e:x+}-*\nGET /pre*\nPOST /{f}\n\nHEAD /12-3-4",
    "GET /{a:[a-z/]+}-{b:%}\nGET /%61%2f\n\nGET /x%2fy-%25",
    "PURGE /a/b\nBREW /{x}/b\nGET /a\n\nPURGE /a/b",
    "GET /abcdefghijkl/{x}\nGET /abcdefghijklmnopqrstuvwxyz\n\nGET /abcdefghijkl/x",
    "GET /{a}/{b}/{c}/{d}\nGET /s/{b}/t/u\nGET /s/x/{c}/v\n\nPUT /s/x/t/v!",
    "GET /img-{id}.png\nGET /{f}.{e}\nGET /{a}.{b}.png\n\nGET /img-a.b.png",
    "GET //\nGET /{x}/\nGET /{x:.*}/{y}\n\nGET //",
];

/// Pieces that mean something to one of the languages.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "*",
    "&a",
    "*a",
    "\n",
    "\n  ",
    "- ",
    "#",
    "\"",
    "'",
    "|",
    ">",
    "!!str",
    "<<",
    "\\",
    "%",
    "%00",
    "/",
    "//",
    "..",
    "é",
    "\u{202e}",
    "\0",
    "\u{1b}",
    "\t",
    "9",
    "-1",
    "1e9",
    "0x",
    "~",
    "null",
    "=",
    "[[",
    "]]",
    "\"\"\"",
    "service",
    "path",
    "rate_limit: ",
    "breaker",
    "{x:",
    "(",
    ")",
    "+",
    "?",
    "^",
    "$",
    "***",
    "password: x",
];

fn mutate(seed: &str, seeds: &[&str], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(0..=bytes.len());
        let end = (at + rng.usize(0..20)).min(bytes.len());
        match rng.u8(0..6) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, PIECES[rng.usize(0..PIECES.len())].bytes())),
            2 => drop(bytes.splice(at..end, PIECES[rng.usize(0..PIECES.len())].bytes())),
            3 => {
                let copy = bytes[at..end].to_vec();
                let to = rng.usize(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            4 => {
                let other = seeds[rng.usize(0..seeds.len())].as_bytes();
                let from = rng.usize(0..=other.len());
                let part = &other[from..(from + rng.usize(0..40)).min(other.len())];
                bytes.splice(at..at, part.iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.u8(..);
                }
            }
        }
    }
    bytes
}

fn run(target: fn(&[u8]), seeds: &[&str], rounds: usize) {
    for seed in seeds {
        target(seed.as_bytes());
    }
    let rounds = if std::env::var_os("CHASSIS_LONG").is_some() {
        rounds * 100
    } else {
        rounds
    };
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..rounds {
        let input = mutate(seeds[round % seeds.len()], seeds, &mut rng);
        if catch_unwind(|| target(&input)).is_err() {
            panic!("round {round}: {:?}", String::from_utf8_lossy(&input));
        }
    }
}

#[test]
fn config_yaml() {
    run(fuzz::config_yaml, YAML, 20_000);
}

#[test]
fn config_toml() {
    run(fuzz::config_toml, TOML, 20_000);
}

#[test]
fn traceparent() {
    run(fuzz::traceparent, TRACEPARENT, 200_000);
}

#[test]
fn grpc_timeout() {
    run(fuzz::grpc_timeout, GRPC_TIMEOUT, 200_000);
}

#[test]
fn route_pattern() {
    run(fuzz::route_pattern, ROUTE_PATTERN, 20_000);
}

#[test]
fn route_table() {
    run(fuzz::route_table, ROUTE_TABLE, 20_000);
}
