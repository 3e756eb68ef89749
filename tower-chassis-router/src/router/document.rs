//! Documents of the routes of a router.

use std::fmt::{self, Write};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header::CONTENT_TYPE};
use tower_chassis_core::Body;

use super::{MethodRouter, RouteInfo, Router, get, listing::shown};

/// The routes of a router as a text, as JSON, as Markdown: sorted, so that equal routers have equal documents.
///
/// ```
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{RouteDocs, Router, get, post};
///
/// let router = Router::<Body>::new()
///     .route("/articles", post(|| async { "made" }))
///     .route("/articles/{id}", get(|| async { "one" }).name("article"));
/// let docs = RouteDocs::new(router.routes());
/// assert_eq!(
///     docs.to_string(),
///     "METHOD  PATH            NAME\n\
///      POST    /articles\n\
///      GET     /articles/{id}  article\n",
/// );
/// // And for who asks the service itself, at `/routes`, `/routes/json`, `/routes/markdown`:
/// let router = router.nest("/routes", docs.router());
/// # router.build().unwrap();
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "docgen")]
pub struct RouteDocs {
    title: String,
    source: bool,
    routes: Vec<RouteInfo>,
}

impl RouteDocs {
    /// Of [`Router::routes`] or [`RouteService::routes`](super::RouteService::routes).
    pub fn new(routes: impl IntoIterator<Item = RouteInfo>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by(|one, other| key(one).cmp(&key(other)));
        Self {
            title: "Routes".into(),
            source: false,
            routes,
        }
    }

    /// The title of the Markdown document. Default: `Routes`.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Whether JSON and Markdown say where in the source each route is, and which function or type answers it.
    /// Default: they do not, since not everybody who may see the routes need see that.
    #[must_use]
    pub fn source(mut self, source: bool) -> Self {
        self.source = source;
        self
    }

    /// A table of text, one line per route. So is [`Display`](fmt::Display).
    #[must_use]
    #[doc(alias = "PrintRoutes")]
    pub fn text(&self) -> String {
        self.to_string()
    }

    /// `{"routes":[…]}`, one line per route. Members that are empty are left out; a route for any method has
    /// the method `*`.
    #[must_use]
    #[doc(alias = "JSONRoutesDoc")]
    pub fn json(&self) -> String {
        let mut text = String::from("{\"routes\":[");
        for (index, route) in self.routes.iter().enumerate() {
            text.push_str(if index == 0 { "\n" } else { ",\n" });
            text.push_str("{\"method\":");
            string(method(route), &mut text);
            text.push_str(",\"path\":");
            string(route.template(), &mut text);
            if let Some(name) = route.name() {
                text.push_str(",\"name\":");
                string(name, &mut text);
            }
            strings("guards", route.guards(), &mut text);
            strings("layers", route.layers(), &mut text);
            if self.source {
                text.push_str(",\"handler\":");
                string(route.handler(), &mut text);
                text.push_str(",\"file\":");
                string(route.location().file(), &mut text);
                let _ = write!(text, ",\"line\":{}", route.location().line());
            }
            text.push('}');
        }
        text.push_str("\n]}\n");
        text
    }

    /// Markdown with HTML in it, as `GitHub` shows it: a fold for each path, in it each method with its layers in
    /// run order.
    #[must_use]
    #[doc(alias = "MarkdownRoutesDoc")]
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n", self.title);
        let place = |route: &RouteInfo| {
            let guards: Vec<_> = route.guards().map(str::to_owned).collect();
            (guards, route.template().to_owned())
        };
        let paths = self
            .routes
            .chunk_by(|one, other| place(one) == place(other));
        for path in paths {
            let Some(first) = path.first() else { continue };
            text.push_str("\n<details>\n<summary><code>");
            html(first.template(), &mut text);
            text.push_str("</code>");
            for guard in first.guards() {
                text.push_str(" if ");
                html(guard, &mut text);
            }
            text.push_str("</summary>\n\n");
            for route in path {
                // A star alone would end the bold text.
                let method = method(route).replace('*', "&#42;");
                let _ = write!(text, "- **{method}**");
                if let Some(name) = route.name() {
                    let _ = write!(text, " ({})", code(name));
                }
                text.push('\n');
                for layer in route.layers() {
                    let _ = writeln!(text, "  - {}", code(layer));
                }
                if self.source {
                    let (handler, place) = (code(route.handler()), route.location());
                    let _ = writeln!(text, "  - {handler}, {}:{}", place.file(), place.line());
                }
            }
            text.push_str("\n</details>\n");
        }
        let _ = write!(text, "\nTotal: {} routes\n", self.routes.len());
        text
    }

    /// Serves the text at `/`, and the others at `/json` and `/markdown`. To be nested somewhere.
    pub fn router<B: Send + 'static>(&self) -> Router<B> {
        Router::new()
            .route("/", page("text/plain; charset=utf-8", self.text()))
            .route("/json", page("application/json", self.json()))
            .route(
                "/markdown",
                page("text/markdown; charset=utf-8", self.markdown()),
            )
    }
}

fn page<B: Send + 'static>(kind: &'static str, text: String) -> MethodRouter<B> {
    let text = Bytes::from(text);
    get(move || {
        let text = text.clone();
        async move {
            let mut response = Response::new(Body::full(text));
            let kind = HeaderValue::from_static(kind);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
    })
}

impl fmt::Display for RouteDocs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |route| row(route).map(|cell| shown(&cell).into_owned());
        let rows: Vec<_> = self.routes.iter().map(row).collect();
        let mut widths = [0; 5];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        // A column without anything in it is left out.
        let head = ["METHOD", "PATH", "NAME", "IF", "LAYERS"];
        for (index, (width, name)) in widths.iter_mut().zip(head).enumerate() {
            if *width > 0 || index < 2 {
                *width = (*width).max(name.len());
            }
        }
        for row in std::iter::once(&head.map(str::to_owned)).chain(&rows) {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row).filter(|(width, _)| **width > 0) {
                let _ = write!(line, "{cell:width$}  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn row(route: &RouteInfo) -> [String; 5] {
    [
        method(route).to_owned(),
        route.template().to_owned(),
        route.name().unwrap_or_default().to_owned(),
        route.guards().collect::<Vec<_>>().join(", "),
        route.layers().collect::<Vec<_>>().join(" "),
    ]
}

fn key(route: &RouteInfo) -> (Vec<&str>, &str, &str) {
    (route.guards().collect(), route.template(), method(route))
}

fn method(route: &RouteInfo) -> &str {
    route.method().map_or("*", Method::as_str)
}

/// As it stands in a line of Markdown: in more backticks than it holds, and apart from them.
fn code(text: &str) -> String {
    let text = shown(text);
    let runs = text.split(|c| c != '`').map(str::len);
    let fence = "`".repeat(runs.max().unwrap_or_default() + 1);
    let apart = if text.contains('`') { " " } else { "" };
    format!("{fence}{apart}{text}{apart}{fence}")
}

fn html(text: &str, to: &mut String) {
    for c in shown(text).chars() {
        match c {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            c => to.push(c),
        }
    }
}

fn strings<'a>(name: &str, values: impl ExactSizeIterator<Item = &'a str>, to: &mut String) {
    if values.len() == 0 {
        return;
    }
    let _ = write!(to, ",\"{name}\":[");
    for (index, value) in values.enumerate() {
        if index > 0 {
            to.push(',');
        }
        string(value, to);
    }
    to.push(']');
}

fn string(text: &str, to: &mut String) {
    to.push('"');
    for c in text.chars() {
        match c {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            c if c < ' ' => {
                let _ = write!(to, "\\u{:04x}", u32::from(c));
            }
            c => to.push(c),
        }
    }
    to.push('"');
}
