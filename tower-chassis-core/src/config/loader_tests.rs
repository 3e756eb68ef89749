use std::fs;

use proptest::prelude::*;
use serde::Deserialize;

use super::{super::scratch::Scratch, *};

fn faults(loader: &Loader) -> String {
    let error = loader.load().unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    error.to_string()
}

fn shown(tree: &Tree, path: &str) -> String {
    tree.get(path).map_or_else(
        || "nothing".into(),
        |node| format!("{:?} from {}", node.value, node.origin),
    )
}

#[test]
fn the_kind_of_a_source_is_its_precedence() {
    let scratch = Scratch::new();
    let low = scratch.write(
        "low.yaml",
        "a: low\nb: low\nc: low\nd: low\ne: low\nf: low\n",
    );
    let high = scratch.write(
        "high.toml",
        "b = 'high'\nc = 'high'\nd = 'high'\ne = 'high'\n",
    );
    // The order of the calls counts within a kind only.
    let tree = Loader::new()
        .set("e", "flag", Source::flag("--e"))
        .env("CHASSIS", [("CHASSIS__D", "env"), ("CHASSIS__E", "env")])
        .text("centre", Format::Yaml, "c: centre\nd: centre\ne: centre\n")
        .file(&low)
        .file(&high)
        .set("a", "default", Source::Default)
        .set("z", "default", Source::Default)
        .set("e", "later", Source::flag("-e"))
        .load()
        .unwrap();
    let (low, high) = (low.display(), high.display());
    for (path, expected) in [
        ("a", format!("Str(\"low\") from {low}:1:4")),
        ("b", format!("Str(\"high\") from {high}:1:5")),
        ("c", "Str(\"centre\") from centre:1:4".to_owned()),
        ("d", "Str(\"env\") from environment CHASSIS__D".to_owned()),
        ("e", "Str(\"later\") from flag -e".to_owned()),
        ("f", format!("Str(\"low\") from {low}:6:4")),
        ("z", "Str(\"default\") from default".to_owned()),
    ] {
        assert_eq!(shown(&tree, path), expected, "{path}");
    }
    // What is missing at the top is looked for in a file and not in the defaults.
    assert_eq!(tree.origin_of("nope").to_string(), format!("{low}:1:1"));
}

#[test]
fn variables_become_paths() {
    let vars = [
        ("CHASSIS__GATEWAY__LISTEN", "127.0.0.1:80"),
        ("CHASSIS__SERVER__HEADER_READ_TIMEOUT", "5s"),
        ("CHASSIS__Mixed__Case", "x"),
        ("CHASSIS__N", "010"),
        ("CHASSIS__EMPTY", ""),
        ("CHASSIS__LIST", "[a, 2]"),
        ("CHASSIS__HOST", "[::1]:80"),
        ("CHASSIS__OPEN", "[a"),
        ("CHASSIS_CONFIG", "not ours"),
        ("CHASSIS", "not ours"),
        ("OTHER__A", "not ours"),
        ("XCHASSIS__A", "not ours"),
    ];
    let tree = Loader::new().env("CHASSIS", vars).load().unwrap();
    for (path, expected) in [
        (
            "gateway.listen",
            "Str(\"127.0.0.1:80\") from environment CHASSIS__GATEWAY__LISTEN",
        ),
        (
            "server.header_read_timeout",
            "Str(\"5s\") from environment CHASSIS__SERVER__HEADER_READ_TIMEOUT",
        ),
        (
            "mixed.case",
            "Str(\"x\") from environment CHASSIS__Mixed__Case",
        ),
        ("n", "Int(10) from environment CHASSIS__N"),
        ("empty", "Null from environment CHASSIS__EMPTY"),
        ("list[0]", "Str(\"a\") from environment CHASSIS__LIST"),
        ("list[1]", "Int(2) from environment CHASSIS__LIST"),
        ("host", "Str(\"[::1]:80\") from environment CHASSIS__HOST"),
        ("open", "Str(\"[a\") from environment CHASSIS__OPEN"),
    ] {
        assert_eq!(shown(&tree, path), expected, "{path}");
    }
    assert_eq!(tree.root().as_map().unwrap().len(), 8);
}

#[test]
fn variables_that_make_no_sense_are_faults() {
    let vars = [
        ("C__A", "1"),
        ("C__A__B", "2"),
        ("C__X__Y", "1"),
        ("C__X", "2"),
        ("C__DUP", "1"),
        ("C__dup", "2"),
        ("C____B", "3"),
        ("C__B__", "3"),
        ("C__", "3"),
    ];
    assert_eq!(
        faults(&Loader::new().env("C", vars)),
        "environment C__: a level has no name; two underscores stand between two names\n\
         environment C__A__B: a.b: contradicts environment C__A\n\
         environment C__B__: a level has no name; two underscores stand between two names\n\
         environment C__X__Y: x.y: contradicts environment C__X\n\
         environment C____B: a level has no name; two underscores stand between two names\n\
         environment C__dup: dup: contradicts environment C__DUP"
    );
    let long = format!("C{}", "__A".repeat(65));
    assert!(faults(&Loader::new().env("C", [(long, "1")])).ends_with(": nested deeper than 64"));
    assert_eq!(
        faults(&Loader::new().set("a[0]", "1", Source::flag("--a")).set(
            "",
            "1",
            Source::flag("--b")
        )),
        "flag --a: a[0]: an item of a list cannot be set by itself\nflag --b: a value needs a path"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_a_fault() {
    use std::os::unix::ffi::OsStringExt as _;
    let var = (OsString::from("C__A"), OsString::from_vec(vec![0xff]));
    assert_eq!(
        faults(&Loader::new().env("C", [var])),
        "environment C__A: a: not UTF-8"
    );
    let name = (
        OsString::from_vec(vec![b'C', b'_', b'_', 0xff]),
        OsString::from("1"),
    );
    assert!(Loader::new().env("C", [name]).load().is_ok());
}

#[test]
fn a_file_that_cannot_be_read_is_told_apart() {
    let scratch = Scratch::new();
    let gone = scratch.path("gone.yaml");
    let odd = scratch.write("g.conf", "a: 1");
    let broken = scratch.write("broken.yaml", "a: [");
    for (loader, path) in [
        (Loader::new().file(&broken).file(&gone), &gone),
        (Loader::new().file(&odd), &odd),
        (
            Loader::new().file_as(scratch.dir(), Format::Yaml),
            &scratch.dir().to_owned(),
        ),
    ] {
        let error = loader.load().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.faults().is_none());
        assert!(
            error
                .to_string()
                .starts_with(&format!("{}: ", path.display())),
            "{error}"
        );
    }
    assert!(Loader::new().file_as(&odd, Format::Yaml).load().is_ok());
    let large = scratch.path("large.yaml");
    File::create(&large).unwrap().set_len(MAX_FILE + 1).unwrap();
    assert!(
        Loader::new()
            .file(&large)
            .load()
            .unwrap_err()
            .to_string()
            .ends_with(": larger than 16 MiB")
    );
}

#[test]
fn files_that_are_no_configuration_are_faults() {
    let scratch = Scratch::new();
    for (name, text, fault) in [
        ("a.yaml", &b"a: 1\nb: \xff\n"[..], "2:4: not UTF-8"),
        (
            "b.yaml",
            b"- 1\n",
            "1:1: the whole must be a map, not a list",
        ),
        (
            "c.yaml",
            b"# c\nhello\n",
            "2:1: the whole must be a map, not a string",
        ),
        (
            "d.json",
            b"{\"a\": 1, \"a\": 2}",
            "1:10: a: duplicate key, first at line 1",
        ),
    ] {
        let file = scratch.write(name, text);
        assert_eq!(
            faults(&Loader::new().file(&file)),
            format!("{}:{fault}", file.display())
        );
    }
    for name in ["e.yaml", "e.toml"] {
        let file = scratch.write(name, "\n \n");
        assert_eq!(
            faults(&Loader::new().file(&file)),
            format!(
                "{}:1:1: the file is empty; a comment or an empty map says that this is meant",
                file.display()
            )
        );
    }
    for text in ["", "# nothing\n", "~", "{}"] {
        assert!(
            Loader::new()
                .text("g", Format::Yaml, text)
                .load()
                .unwrap()
                .root()
                .as_map()
                .unwrap()
                .is_empty()
        );
    }
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Sample {
    name: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    tags: Vec<String>,
    zone: Option<String>,
}

#[test]
fn nobody_can_quote_a_variable() {
    let vars = [
        ("C__NAME", "010"),
        ("C__PORT", "80"),
        ("C__TAGS", "[1, true]"),
        ("C__ZONE", ""),
    ];
    let (_, sample) = Loader::new().env("C", vars).load_as::<Sample>().unwrap();
    assert_eq!(
        sample,
        Sample {
            name: "010".into(),
            port: 80,
            tags: vec!["1".into(), "true".into()],
            zone: None
        }
    );
    let (_, sample) = Loader::new()
        .env("C", [("C__NAME", "[::1]"), ("C__ZONE", " x ")])
        .load_as::<Sample>()
        .unwrap();
    assert_eq!(
        (sample.name.as_str(), sample.zone.as_deref()),
        ("[::1]", Some(" x "))
    );
    let error = Loader::new()
        .text("g", Format::Yaml, "name: 010\n")
        .load_as::<Sample>()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "g:1:7: name: expected a string, found 10; put it in quotes"
    );
    let error = Loader::new()
        .env("C", [("C__NAME", "x"), ("C__PORT", "x")])
        .load_as::<Sample>()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment C__PORT: port: expected an integer from 0 to 65535, found \"x\""
    );
}

#[test]
fn faults_of_all_layers_come_together() {
    let loader = Loader::new()
        .text("a", Format::Yaml, "name: x\nname: y\nprt: 1\n")
        .text("b", Format::Yaml, "tags: !odd [1]\n")
        .env("C", [("C__PORT", "70000"), ("C__NOPE", "1")]);
    let error = loader.load_as::<Sample>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "a:2:1: name: duplicate key, first at line 1\n\
         a:3:1: prt: unknown key; did you mean \"port\"?\n\
         b:1:7: tags: unknown tag !odd\n\
         b:1:13: tags[0]: expected a string, found 1; put it in quotes\n\
         environment C__NOPE: nope: unknown key; accepted keys: name, port, tags, zone\n\
         environment C__PORT: port: expected an integer from 0 to 65535, found 70000"
    );
    // What is wrong with a text is not said once more by the type.
    let error = Loader::new()
        .text("a", Format::Yaml, "name: x\nport: !!int x\n")
        .load_as::<Sample>()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "a:2:7: port: not what its tag !!int says"
    );
    // After a syntax error nothing is said about what may be missing because of it.
    let loader =
        Loader::new()
            .text("a", Format::Yaml, "name: [\n")
            .text("b", Format::Toml, "prt = ");
    let error = loader.load_as::<Sample>().unwrap_err();
    let error = error.to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(
        lines.iter().all(|line| line.contains(": syntax error: ")),
        "{error}"
    );
}

#[test]
fn nothing_shows_a_secret_in_passing() {
    let loader = Loader::new()
        .text("t", Format::Yaml, "password: hunter2")
        .env("C", [("C__TOKEN", "hunter2")])
        .set("api_key", "hunter2", Source::flag("--key"));
    let shown = format!("{loader:?} {:?}", loader.load().unwrap());
    assert!(
        shown.contains("C__TOKEN") && shown.contains("password: ***"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn it_may_be_loaded_again() {
    let scratch = Scratch::new();
    let file = scratch.write("g.yaml", "name: a\n");
    let loader = Loader::new().file(&file);
    assert_eq!(loader.load_as::<Sample>().unwrap().1.name, "a");
    fs::write(&file, "name: b\n").unwrap();
    assert_eq!(loader.load_as::<Sample>().unwrap().1.name, "b");
}

proptest! {
    #[test]
    fn anything_loads_or_is_a_fault(
        yaml in "([ \\-?:,\\[\\]{}#&*!|>'\"\n.a-c0-9]|name: |port: |tags:\n|- ){0,30}",
        toml in "([=.,\\[\\]{}'\"\n a-c0-9]|name = |tags = ){0,20}",
        vars in prop::collection::vec(("C(__|_|[A-C]){0,6}", ".{0,6}"), 0..6),
        path in ".{0,8}",
        value in ".{0,8}",
    ) {
        let loader = Loader::new()
            .text("y", Format::Yaml, yaml)
            .text("t", Format::Toml, toml)
            .env("C", vars)
            .set(&path, value, Source::flag("--f"));
        let _ = loader.load_as::<Sample>();
        if let Ok(tree) = loader.load() {
            let shown = tree.render(&[]);
            // What is shown may be shown again: it is YAML.
            prop_assert!(Loader::new().text("s", Format::Yaml, shown.clone()).load().is_ok(), "{}", shown);
        }
    }
}
