//! What types do with serde.

use super::*;

#[test]
fn what_a_type_says_of_a_whole_is_no_fault_if_a_part_is_wrong() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "Raw")]
    struct Range;

    #[derive(Debug, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Raw {
        min: u8,
        max: u8,
    }

    impl Default for Raw {
        fn default() -> Self {
            Self { min: 10, max: 20 }
        }
    }

    impl TryFrom<Raw> for Range {
        type Error = &'static str;

        fn try_from(raw: Raw) -> Result<Self, Self::Error> {
            if raw.min <= raw.max {
                Ok(Self)
            } else {
                Err("min is above max")
            }
        }
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Outer {
        one: Range,
        two: Range,
    }

    assert_eq!(
        faults::<Outer>("one: {min: x, max: 5}\ntwo: {max: 5}\n"),
        "g.yaml:1:12: one.min: expected an integer from 0 to 255, found \"x\"\n\
         g.yaml:2:1: two: min is above max"
    );
}

#[test]
fn keys_may_be_numbers_and_names() {
    #[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    #[serde(rename_all = "snake_case")]
    enum Name {
        One,
        Two,
    }
    let numbers: BTreeMap<u16, bool> = read("80: true\n443: false\n");
    assert_eq!(
        numbers.into_iter().collect::<Vec<_>>(),
        [(80, true), (443, false)]
    );
    assert_eq!(
        faults::<BTreeMap<u16, bool>>("80: true\nx: true\n70000: true\n81: 5\n"),
        "g.yaml:2:1: x: expected an integer from 0 to 65535, found \"x\"\n\
         g.yaml:3:1: 70000: expected an integer from 0 to 65535, found 70000\n\
         g.yaml:4:5: 81: expected true or false, found 5"
    );
    assert_eq!(read::<BTreeMap<Name, u8>>("one: 1\n").len(), 1);
    assert_eq!(
        faults::<BTreeMap<Name, u8>>("tow: 1\n"),
        "g.yaml:1:1: tow: unknown value \"tow\"; did you mean \"two\"?"
    );
    assert_eq!(read::<BTreeMap<bool, u8>>("true: 1\n").len(), 1);
}

#[test]
fn types_that_look_before_they_read() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Tagged {
        A { n: u8 },
        B,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Flat {
        x: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct All {
        hosts: OneOrMany,
        tagged: Option<Tagged>,
        flat: Option<Flat>,
    }
    assert_eq!(read::<All>("hosts: a").hosts, OneOrMany::One("a".into()));
    assert_eq!(
        read::<All>("hosts: [a, b]").hosts,
        OneOrMany::Many(vec!["a".into(), "b".into()])
    );
    let all = read::<All>("hosts: a\ntagged: {type: a, n: 5}\nflat: {x: 1, y: 2}\n");
    assert_eq!(all.tagged, Some(Tagged::A { n: 5 }));
    assert_eq!(all.flat.unwrap().rest["y"], 2);
    // Serde reads these in one piece, so the whole is where the fault is.
    assert_eq!(
        faults::<All>("hosts: 5\ntagged: {type: c}\nflat: {x: 1, y: z}\n"),
        "g.yaml:1:8: hosts: data did not match any variant of untagged enum OneOrMany\n\
         g.yaml:2:16: tagged.type: unknown value \"c\"; accepted values: a, b\n\
         g.yaml:3:7: flat: expected an integer from 0 to 255, found \"z\""
    );
}

#[test]
fn no_fault_shows_a_secret() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Careless {
        password: Option<u8>,
        api_token: Option<SocketAddr>,
        secret: Option<Balance>,
        #[serde(default)]
        secrets: BTreeMap<String, Span>,
        url: Option<u8>,
        #[serde(default)]
        plain: Option<Secret>,
        #[serde(default)]
        headers: BTreeMap<String, u8>,
    }
    let text = "password: hunter2\napi_token: hunter2\nsecret: hunter2\nsecrets: {a: hunter2}\n\
                url: redis://me:hunter2@host/0\nplain: 1234\nheaders: {x-team: hunter2}\n";
    let said = faults::<Careless>(text);
    assert!(
        !said.contains("hunter2") && !said.contains("1234"),
        "{said}"
    );
    assert_eq!(
        said,
        "g.yaml:1:11: password: expected an integer from 0 to 255, found a string\n\
         g.yaml:2:12: api_token: invalid socket address syntax\n\
         g.yaml:3:9: secret: unknown value\n\
         g.yaml:4:14: secrets.a: invalid value\n\
         g.yaml:5:6: url: expected an integer from 0 to 255, found \"redis://***@host/0\"\n\
         g.yaml:6:8: plain: expected a string; put it in quotes\n\
         g.yaml:7:19: headers.x-team: expected an integer from 0 to 255, found a string"
    );
    let long = format!("url: {}\n", "x".repeat(500));
    assert_eq!(
        faults::<Careless>(&long).len(),
        "g.yaml:1:6: url: expected an integer from 0 to 255, found \"…\"".len() + 60
    );
}

#[test]
fn a_flood_of_faults_has_an_end() {
    let text: String = (0..5000).map(|n| format!("k{n}: x\n")).collect();
    let faults = tree(&text)
        .deserialize::<BTreeMap<String, u8>>()
        .unwrap_err();
    assert_eq!(faults.len(), 101);
    assert_eq!(
        faults.iter().last().unwrap().to_string(),
        "default: more than 100 faults; the rest was not looked at"
    );
}

#[test]
fn a_whole_that_is_refused_ends() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "u8")]
    struct Never;

    impl TryFrom<u8> for Never {
        type Error = &'static str;

        fn try_from(_: u8) -> Result<Self, Self::Error> {
            Err("never")
        }
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    enum Endless {
        Cons(Box<Endless>, Box<Endless>),
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Inner {
        never: Never,
        endless: Endless,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Root {
        #[serde(default)]
        list: Vec<Inner>,
        last: u8,
    }
    assert_eq!(
        faults::<u8>("a: 1"),
        "g.yaml:1:1: expected an integer from 0 to 255, found a map"
    );
    assert_eq!(
        faults::<Endless>("{}"),
        "g.yaml:1:1: expected one of Cons, as the only key"
    );
    // No stand-in pleases `never`, so that `endless` is not missed; what comes after the whole is.
    assert_eq!(
        faults::<Root>("list:\n- never: 1\n- {endless: 1}\n"),
        "g.yaml:1:1: last: missing required key\n\
         g.yaml:2:10: list[0].never: never\n\
         g.yaml:3:3: list[1].never: missing required key\n\
         g.yaml:3:13: list[1].endless: expected one of Cons, found 1"
    );
}

#[test]
fn what_can_be_read_is_read() {
    let text = "listen: 1.2.3.4:5\nservices: {a: {}, b: 5, c: {url: u, brek: 1}}\nroutes:\n- 5\n";
    let (gateway, faults) = tree(text).deserialize_partly::<Gateway>();
    let gateway = gateway.unwrap();
    assert_eq!(faults.len(), 4, "{faults}");
    assert_eq!(gateway.services.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(
        (gateway.services["c"].url.as_str(), gateway.routes.len()),
        ("u", 0)
    );
    // Nothing can be made of a whole of the wrong kind.
    assert!(tree("a: 1").deserialize_partly::<u8>().0.is_none());
    let (gateway, faults) = tree("listen: 1.2.3.4:5").deserialize_partly::<Gateway>();
    assert!(gateway.is_some() && faults.is_empty());
}
