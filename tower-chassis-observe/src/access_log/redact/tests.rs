use proptest::prelude::*;

use super::*;

#[test]
fn names() {
    let redact = Redact::new().and(["x-my_own"]);
    for name in [
        "Authorization",
        "proxy-authorization",
        "cookie",
        "Set-Cookie",
        "x-api-key",
        "X-Auth-Token",
        "x-csrf-token",
        "accessToken",
        "client_secret",
        "user[password]",
        "PWD",
        "key",
        "xMyOwnValue",
    ] {
        assert!(redact.is_secret(name), "{name}");
    }
    for name in [
        "",
        "user",
        "author",
        "keyboard",
        "page",
        "content-type",
        "spinner",
    ] {
        assert!(!redact.is_secret(name), "{name}");
    }
    assert!(!Redact::new().and([""]).is_secret("page"));
}

#[test]
fn headers() {
    let redact = Redact::new();
    for (name, value, shown) in [
        ("authorization", "Bearer S3CR3T", "Bearer ***"),
        ("authorization", "basic S3CR3T", "basic ***"),
        ("authorization", "S3CR3T other", "***"),
        ("authorization", "S3CR3T", "***"),
        ("cookie", "a=S3CR3T", "***"),
        ("x-api-key", "Bearer S3CR3T", "***"),
        (
            "content-type",
            "text/plain; charset=utf-8",
            "text/plain; charset=utf-8",
        ),
        ("baggage", "user=S3CR3T", "***"),
        (
            "referer",
            "https://u:S3CR3T@a.b/c?d=S3CR3T#S3CR3T",
            "https://a.b/c",
        ),
        ("referer", "/c?d=S3CR3T", "/c"),
        (
            "referer",
            "http://a/b;jsessionid=S3CR3T/c",
            "http://a/b;jsessionid=***/c",
        ),
        ("Location", "//u:S3CR3T@a.b?x", "//a.b"),
        ("x-note", "say token=S3CR3T", "say token=***"),
    ] {
        let out = redact.header(name, value.as_bytes());
        assert_eq!(String::from_utf8_lossy(&out), shown, "{name}");
    }
    assert_eq!(redact.header("x", b"\xff\x80"), b"\xff\x80".as_slice());
}

#[test]
fn queries() {
    let redact = Redact::new();
    for (query, shown) in [
        ("", ""),
        ("a=1&b", "a=1&b"),
        ("a=1&token=S3CR3T&b=2", "a=1&token=***&b=2"),
        ("tok%65n=S3CR3T", "tok%65n=***"),
        ("a=1;Api-Key=S3CR3T", "a=1;Api-Key=***"),
        ("user%5Bpassword%5D=S3CR3T", "user%5Bpassword%5D=***"),
        ("token=S3CR3T=S3CR3T", "token=***"),
        ("next=https%3A%2F%2Fa%2F%3Ftoken%3DS3CR3T", "next=***"),
        ("=S3CR3T&token=", "=S3CR3T&token=***"),
        ("&&", "&&"),
    ] {
        assert_eq!(redact.query(query), shown);
    }
}

#[test]
fn paths() {
    let redact = Redact::new();
    for (path, shown) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a;b=1/c", "/a;b=1/c"),
        ("/a;jsessionid=S3CR3T", "/a;jsessionid=***"),
        ("/a;v=1;token=S3CR3T/b;x/", "/a;v=1;token=***/b;x/"),
        ("/;/;sid=S3CR3T", "/;/;sid=***"),
    ] {
        assert_eq!(redact.path(path), shown);
    }
}

#[test]
fn texts() {
    let redact = Redact::new();
    for (text, shown) in [
        ("", ""),
        ("{\"a\":1}", "{\"a\":1}"),
        (r#"{"password":"S3CR3T"}"#, r#"{"password":"***"}"#),
        (
            r#"{"password" : "S3CR\"3T", "a":1}"#,
            r#"{"password" : "***", "a":1}"#,
        ),
        (
            r#"{"pass\u0077ord":"S3CR3T"}"#,
            r#"{"pass\u0077ord":"***"}"#,
        ),
        (r#"{"password":"S3CR"#, r#"{"password":"***""#),
        (r#"{"password":"S3CR\"#, r#"{"password":"***""#),
        (r#"{"password":"#, r#"{"password":"#),
        (r#"{"pin":1234,"a":2}"#, r#"{"pin":"***","a":2}"#),
        (
            r#"{"secrets":{"a":["S3CR3T","}"],"b":"S3CR3T"},"c":1}"#,
            r#"{"secrets":"***","c":1}"#,
        ),
        (r#"{"secrets":["S3CR3T",{"a":"S3CR"#, r#"{"secrets":"***""#),
        (
            r#"{'password':'S3CR3T','a':1}"#,
            r#"{'password':"***",'a':1}"#,
        ),
        (r#"{password:"S3CR3T"}"#, r#"{password:"***"}"#),
        (
            r#"{"password":S3CR3T,"a":1}"#,
            r#"{"password":"***","a":1}"#,
        ),
        (
            r#"{"raw":"{\"token\":\"S3CR3T\"}"}"#,
            r#"{"raw":"{\"token\":\"***\"}"}"#,
        ),
        (
            r#"{"url":"https://u:S3CR3T@a/b?token=S3CR3T"}"#,
            r#"{"url":"https://***@a/b?token=***"}"#,
        ),
        (
            "Authorization: Bearer S3CR3T\nx: y",
            "Authorization: ***\nx: y",
        ),
        ("password='it's S3CR3T'\nx", "password=\"***\"\nx"),
        ("{\"a\":1} password: a,S3CR3T", "{\"a\":1} password: ***"),
        ("got Bearer S3CR3TS3CR3T from x", "got Bearer *** from x"),
        ("token=S3CR3T&a=b", "token=***&a=b"),
        ("user[password]=S3CR3T", "user[password]=\"***\""),
        ("<password>S3CR3T</password>", "<password>***</password>"),
        (
            "it isn't the password: S3CR3T",
            "it isn't the password: ***",
        ),
        (
            "grün \u{fffd} password: S3CR3T",
            "grün \u{fffd} password: ***",
        ),
        (
            "5\" disk, password: S3CR3T, 3\" x",
            "5\" disk, password: ***\" x",
        ),
    ] {
        let out = redact.text(text);
        assert!(!out.contains("S3CR"), "{out}");
        if !text.contains("disk") {
            assert_eq!(out, shown);
        }
    }
}

#[test]
fn a_text_in_a_text_in_a_text() {
    let mut text = r#"{"token":"S3CR3T","a":"b"}"#.to_owned();
    for _ in 0..6 {
        let shown = Redact::new().text(&text).into_owned();
        assert!(!shown.contains("S3CR3T"), "{shown}");
        assert!(
            serde_json::from_str::<serde_json::Value>(&shown).is_ok(),
            "{shown}"
        );
        text = serde_json::json!({ "raw": text }).to_string();
    }
}

#[test]
fn bodies() {
    let redact = Redact::new();
    for (kind, body, shown) in [
        (
            "application/json",
            r#"{"token":"x"}"#,
            Some(r#"{"token":"***"}"#),
        ),
        ("application/problem+json; charset=UTF-8", "{}", Some("{}")),
        ("application/json; charset=utf-16", "{}", None),
        ("application/json", "{\0}\0", None),
        (
            "application/x-www-form-urlencoded",
            "a=1&pwd=x",
            Some("a=1&pwd=***"),
        ),
        // What `curl -d` sends.
        (
            "application/x-www-form-urlencoded",
            r#" {"pwd":"x"}"#,
            Some(r#" {"pwd":"***"}"#),
        ),
        ("application/json", "a=1&pwd=x", Some("a=1&pwd=***")),
        ("TEXT/plain", "hello", Some("hello")),
        ("text/html", "hello", None),
        ("image/png", "hello", None),
        ("multipart/form-data; boundary=x", "hello", None),
        ("", "hello", None),
    ] {
        assert_eq!(
            redact.body(kind, body.as_bytes()).as_deref(),
            shown,
            "{kind}"
        );
    }
}

/// A document in which `PLANTED` stands under secret names, and only there.
fn document() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = |text: &'static str| {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            text.prop_map(Value::from),
        ]
    };
    let secret = leaf("PLANTED[\"\\\\{}\\[\\],:a-zä' \n]{0,12}").prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    });
    leaf("[a-z\"\\\\{}\\[\\],ä \n]{0,12}").prop_recursive(4, 24, 4, move |inner| {
        let member = prop_oneof![
            // Of these letters no secret name is made.
            3 => ("[bdghlmnqz]{1,6}", inner.clone()),
            1 => ("(access_token|Password|x-api-key|pin|clientSecret)", secret.clone()),
        ];
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            proptest::collection::vec(member, 0..4)
                .prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

/// What is to come of it.
fn masked(document: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match document {
        Value::Array(items) => items.into_iter().map(masked).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let secret = [
                    "access_token",
                    "Password",
                    "x-api-key",
                    "pin",
                    "clientSecret",
                ]
                .contains(&&*name);
                let value = if secret { MASK.into() } else { masked(value) };
                (name, value)
            })
            .collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn any_text_is_read(text in ".{0,200}", tricky in "[{}\\[\\]\"'\\\\:=,&<>/@ a-z%+token-]{0,80}") {
        let redact = Redact::new();
        for text in [&*text, &*tricky] {
            let _ = redact.text(text);
            let _ = redact.query(text);
            let _ = redact.path(text);
            let _ = redact.header("location", text.as_bytes());
        }
    }

    /// A document of any shape, cut anywhere: what stands under a secret name is never shown.
    #[test]
    fn a_secret_is_not_in_a_document_that_is_cut_off(
        before in "[a-z {}\\[\\],0-9]{0,20}",
        name in "(access_|client-)?(token|Secret|pass\\\\u0077ord|apiKey)",
        spaces in "[ \n]{0,2}",
        after in "[a-z{}\",:]{0,20}",
        cut in 0_usize..200,
    ) {
        let value = "PLANTED".repeat(4);
        let whole = serde_json::json!({ "before": before, "x": [1, "y"] }).to_string();
        let whole = whole.trim_end_matches('}');
        let text = format!("{whole},\"{name}\"{spaces}:{spaces}\"{value}\"{after}");
        let mut end = cut.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let shown = Redact::new().text(&text[..end]).into_owned();
        prop_assert!(!shown.contains("PLANT"), "{shown}");
    }

    /// Whatever a document looks like: whole, it is what a plain reading of it gives; cut off anywhere, nothing of a
    /// secret is shown.
    #[test]
    fn a_document_is_read_as_plainly(
        document in document(),
        pretty in any::<bool>(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
        let text = text.unwrap();
        let redact = Redact::new();
        let shown = redact.text(&text).into_owned();
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        prop_assert_eq!(read, masked(document));
        let cut = redact.readable(Kind::Json, &text.as_bytes()[..cut.index(text.len())]);
        prop_assert!(!cut.unwrap().contains("PLANT"));
    }

    /// Of JSON it makes JSON.
    #[test]
    fn json_stays_json(
        keys in proptest::collection::vec("(token|a|b|pin|\"|\\\\)", 1..6),
        value in "[ -~]{0,20}",
        number in any::<i32>(),
    ) {
        let mut object = serde_json::Map::new();
        for (n, key) in keys.iter().enumerate() {
            object.insert(format!("{key}{n}"), serde_json::json!({ "v": value, "n": number, "l": [value] }));
            object.insert(key.clone(), value.clone().into());
        }
        let text = serde_json::Value::Object(object).to_string();
        let shown = Redact::new().text(&text).into_owned();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&shown).is_ok(), "{text} -> {shown}");
    }
}

#[test]
fn words_of_a_name() {
    let redact = Redact::new();
    for name in [
        "user[pin]",
        "card_cvc",
        "cardCvv",
        "db-pwd",
        "dbPwd",
        "userPIN",
        "pin_code",
        "x-auth",
        "proxy_pass",
        "connect.sid",
        "SAMLResponse",
        "code_verifier",
    ] {
        assert!(redact.is_secret(name), "{name}");
    }
    for name in [
        "auth_time",
        "x-auth-method",
        "compass",
        "passenger",
        "sidebar",
        "pinned",
        "sort_key",
        "idempotency-key",
        "code",
    ] {
        assert!(!redact.is_secret(name), "{name}");
    }
}

/// An address in an address, as the page of a login is asked for.
#[test]
fn encoded_as_often_as_you_like() {
    let encode = |text: &str| {
        let encoded = text.bytes().map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        });
        encoded.collect::<String>()
    };
    let redact = Redact::new();
    let mut query = "token=S3CR3T".to_owned();
    for depth in 0..8 {
        let shown = redact.query(&query);
        assert!(!shown.contains("S3CR3T"), "{depth}: {shown}");
        let shown = redact.text(&query);
        assert!(!shown.contains("S3CR3T"), "{depth}: {shown}");
        query = format!("next={}&a=1", encode(&format!("https://a/?{query}")));
    }
    assert_eq!(
        redact.query("next=https%3A%2F%2Fa%2F%253Fpage"),
        "next=https%3A%2F%2Fa%2F%253Fpage"
    );
}

#[test]
fn paths_that_hold_more_than_names() {
    let redact = Redact::new();
    for (path, shown) in [
        ("/cb/token=S3CR3T/x", "/cb/token=***/x"),
        ("/a%3Bsid%3DS3CR3T/x", "/***/x"),
        ("/get/https://u:S3CR3T@h/x", "/get/https://h/x"),
        (
            "/verify/eyJhbGciOiJub25lIn0.eyJzdWIiOiJTM0NSM1QifQ.S3CR3T",
            "/verify/***",
        ),
        ("/a=1/b@c/J%20/eyJ", "/a=1/b@c/J%20/eyJ"),
    ] {
        assert_eq!(redact.path(path), shown);
    }
    let links = "<https://a/x>; rel=next, <https://u:S3CR3T@b/y>";
    let shown = redact.header("link", links.as_bytes());
    assert_eq!(
        String::from_utf8_lossy(&shown),
        "<https://a/x>; rel=next, <https://b/y>"
    );
}

#[test]
fn texts_that_are_not_well_formed() {
    let redact = Redact::new();
    for (text, seen) in [
        ("it's my password: 'S3CR3T'", "it's"),
        ("it's my password: ' S3CR3T'", "it's"),
        (r#"5" disk, password: "S3CR3T""#, "disk"),
        (r#"5" disk "password":"S3CR3T""#, "disk"),
        (r#"{"a":1} "b" c" token: "S3CR3T"#, "a"),
        (
            "<ns:Password Type=\"#text\">S3CR3T</ns:Password><a>b</a>",
            "<a>b</a>",
        ),
        (
            "<password><![CDATA[S3CR3T]]></password><a>b</a>",
            "<a>b</a>",
        ),
        (
            "<secrets><a>S3CR3T</a><b>S3CR3T</b></secrets> after",
            "after",
        ),
        ("Vec<Token>S3CR3T <b>after", "<b>after"),
        ("<a><token/>after", "after"),
        (
            "id eyJhbGciOiJub25lIn0.eyJzdWIiOiJTM0NSM1QifQ.S3CR3T after",
            "after",
        ),
        (
            r#"{"id":"eyJhbGciOiJub25lIn0.eyJzdWIiOiJTM0NSM1QifQ.S3CR3T","b":1}"#,
            r#""b":1}"#,
        ),
        (
            r#"{"redirect":"https://a/?n=https%3A%2F%2Fb%3Ftoken%3DS3CR3T"}"#,
            "redirect",
        ),
    ] {
        let shown = redact.text(text);
        assert!(!shown.contains("S3CR3T"), "{shown}");
        assert!(shown.contains(seen), "{shown}");
    }
    // Whole, it stays what it is.
    let whole = r#"{"label":"Your password:","a":["token:", "b"],"c":{"d":"pin="} }"#;
    assert_eq!(redact.text(whole), whole);
}

#[test]
fn documents_one_after_the_other() {
    let body = b"{\"token\":\"x\"}\n{\"token\":\"y\"}\n";
    for kind in ["application/x-ndjson", "application/jsonl", "text/json"] {
        let shown = Redact::new().body(kind, body).unwrap();
        assert_eq!(shown, "{\"token\":\"***\"}\n{\"token\":\"***\"}\n");
    }
}
