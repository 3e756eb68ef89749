//! Examples of chi with this router, one file each.
//!
//! ```text
//! cargo run --example chi_examples -- todos
//! curl http://127.0.0.1:3000/todos/1
//! ```
//!
//! | name | what |
//! |---|---|
//! | `versions` | three versions of an API, each over the one before |
//! | `files` | a folder, below a prefix |
//! | `limits` | how many at once, and how many wait |
//! | `methods` | methods that HTTP does not name |
//! | `todos` | a resource with all its methods, and one below it |
//! | `walk` | prints its routes, and why a request goes where it goes |
//! | `graceful` | Ctrl-C lets requests finish |
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

mod files;
mod graceful;
mod limits;
mod methods;
mod todos;
mod versions;
mod walk;

use tower_chassis::{
    BoxError,
    router::Router,
    server::{Drain, Server, ServerPolicy},
};

fn app(name: &str) -> Result<Router, BoxError> {
    Ok(match name {
        "files" => files::app(std::env::args().nth(3).unwrap_or_else(|| "examples".into())),
        "graceful" => graceful::app(),
        "limits" => limits::app()?,
        "methods" => methods::app()?,
        "todos" => todos::app(),
        "versions" => versions::app(),
        "walk" => walk::app(),
        _ => return Err(format!("there is no `{name}`; the first comment lists what is").into()),
    })
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "todos".into());
    if name == "walk" {
        return walk::print();
    }
    let app = app(&name)?.build()?;
    let server = Server::new(ServerPolicy::default())
        .listen(arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into()))
        .bind()
        .await?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    let drain = Drain::new();
    let on_signal = drain.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.start();
            on_signal.hurry(); // no load balancer has to learn of it first
        }
    });
    println!("drained: {:?}", server.serve(app, drain).await);
    Ok(())
}
