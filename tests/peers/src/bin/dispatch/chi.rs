//! chi, a process of its own.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use tower_chassis_peers::{process::pinned, tables};

/// Where Debian puts it.
const SOURCE: &str = "/usr/share/gocode/src/github.com/go-chi/chi";

/// Killed by its process id when this is dropped.
pub(crate) struct Chi {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

pub(crate) struct Round {
    pub(crate) nanos: f64,
    pub(crate) allocations: f64,
}

impl Chi {
    pub(crate) fn start() -> Self {
        let source = env::var("CHI_SOURCE").unwrap_or_else(|_| SOURCE.to_owned());
        let program = build(Path::new(&source));
        let mut child = pinned(0, &program, &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("chi's program starts");
        println!("chi: {}", version(&source));
        Self {
            asks: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub(crate) fn round(&mut self, table: &str, millis: u64) -> Round {
        let file = tables::file(table);
        writeln!(self.asks, "{} {millis}", file.display()).expect("chi's program lives");
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("chi's program answers");
        let mut figures = line.split_whitespace().map(|word| word.parse().unwrap());
        Round {
            nanos: figures.next().expect("nanoseconds"),
            allocations: figures.next().expect("allocations"),
        }
    }
}

impl Drop for Chi {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the program against the source, without the network.
fn build(source: &Path) -> PathBuf {
    let folder = env::temp_dir().join(format!("chi-peer-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("chi/main.go");
    fs::copy(program, folder.join("main.go")).unwrap();
    let module = format!(
        "module chi-peer\ngo 1.22\nrequire github.com/go-chi/chi/v5 v5.0.0\nreplace github.com/go-chi/chi/v5 => {}\n",
        source.display()
    );
    fs::write(folder.join("go.mod"), module).unwrap();
    let built = Command::new("go")
        .args(["build", "-o", "chi-peer", "."])
        .envs([("GOFLAGS", "-mod=mod"), ("GOPROXY", "off")])
        .current_dir(&folder)
        .status();
    match built {
        Ok(status) if status.success() => folder.join("chi-peer"),
        other => panic!(
            "`go build` against {}: {other:?}; --chi no goes without",
            source.display()
        ),
    }
}

/// Debian's version of the package, or the folder.
fn version(source: &str) -> String {
    let package = Command::new("dpkg-query")
        .args(["-W", "golang-github-go-chi-chi-dev"])
        .output();
    match package {
        Ok(output) if source == SOURCE && output.status.success() => {
            String::from_utf8_lossy(&output.stdout)
                .trim()
                .replace('\t', " ")
        }
        _ => source.to_owned(),
    }
}
