//! Routes and the paths that are asked for.

/// A table by name.
pub struct Table {
    pub name: String,
    pub routes: Vec<String>,
    pub paths: Vec<String>,
    /// Whether the paths have routes.
    pub hits: bool,
    /// Whether nobody else comes to an end.
    pub alone: bool,
}

impl Table {
    fn new(name: impl Into<String>, routes: Vec<String>, paths: Vec<String>) -> Self {
        Self {
            name: name.into(),
            routes,
            paths,
            hits: true,
            alone: false,
        }
    }

    fn miss(mut self) -> Self {
        self.hits = false;
        self
    }
}

const NAMED: [(&str, &str); 4] = [
    ("github", include_str!("../../../routes/github.json")),
    ("gplus", include_str!("../../../routes/gplus.json")),
    ("parse", include_str!("../../../routes/parse.json")),
    ("static", include_str!("../../../routes/static.json")),
];

/// The seven of the reference: each shape once, asked for as there (`:name` for a parameter).
pub fn reference() -> Vec<Table> {
    let mut tables: Vec<_> = NAMED
        .iter()
        .map(|(name, json)| {
            let rows: serde_json::Value = serde_json::from_str(json).unwrap();
            let (mut routes, mut paths) = (Vec::new(), Vec::new());
            for row in rows.as_array().unwrap() {
                let path = row["path"].as_str().unwrap();
                let route = numbered(path);
                if !routes.contains(&route) {
                    routes.push(route);
                    paths.push(path.replace('{', ":").replace('}', ""));
                }
            }
            Table::new(*name, routes, paths)
        })
        .collect();
    let of = |count: usize, value: &dyn Fn(usize) -> String| {
        let route = (0..count).map(|index| format!("/{{p{index}}}")).collect();
        let path = (0..count)
            .map(|index| format!("/{}", value(index)))
            .collect();
        Table::new(format!("param{count}"), vec![route], vec![path])
    };
    tables.push(Table::new(
        "param1",
        vec!["/user/{name}".to_owned()],
        vec!["/user/gordon".to_owned()],
    ));
    tables.push(of(5, &|_| "test".to_owned()));
    tables.push(of(20, &|index| char::from(b'a' + index as u8).to_string()));
    tables
}

/// Parameters named by their place: some refuse two names at one place.
fn numbered(path: &str) -> String {
    let mut index = 0;
    let segments = path.split('/').map(|segment| {
        index += 1;
        if segment.starts_with('{') {
            format!("{{p{index}}}")
        } else {
            segment.to_owned()
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// A word of four to eleven letters.
fn word(index: usize, salt: u64) -> String {
    let mut state = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mut next = || {
        state ^= state >> 29;
        state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 32;
        state
    };
    let len = 4 + next() % 8;
    (0..len)
        .map(|_| char::from(b'a' + (next() % 26) as u8))
        .collect()
}

/// `count` routes of up to two parameters below 97 prefixes, and 1,024 paths spread over them. Their names are numbered, or
/// words that have nothing in common: then each resource has a list, an item, and something below the item.
pub fn generated(count: usize, words: bool) -> Table {
    let route = |index: usize| {
        if !words {
            let prefix = index % 97;
            return match index % 3 {
                0 => format!("/service{prefix}/resource{index}"),
                1 => format!("/service{prefix}/resource{index}/{{p1}}"),
                _ => format!("/service{prefix}/{{p1}}/resource{index}/{{p2}}"),
            };
        }
        let (prefix, resource) = (word(index % 97, 1), word(index / 3, 2));
        match index % 3 {
            0 => format!("/{prefix}/{resource}"),
            1 => format!("/{prefix}/{resource}/{{p1}}"),
            _ => format!("/{prefix}/{resource}/{{p1}}/{}/{{p2}}", word(index, 3)),
        }
    };
    let paths = (0..1024_u64).map(|index| {
        let spread = (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % count;
        route(spread)
            .replace("{p1}", "1234567")
            .replace("{p2}", "abc")
    });
    let name = if words {
        format!("{count} words")
    } else {
        count.to_string()
    };
    Table::new(name, (0..count).map(route).collect(), paths.collect())
}

fn mix(depth: u32, mix: u32) -> String {
    let segments = (0..depth).map(|place| match mix >> (depth - 1 - place) & 1 {
        0 => format!("/s{place}"),
        _ => format!("/{{p{place}}}"),
    });
    segments.collect()
}

/// All mixes of text and parameter, each with an end of its own; asked for with the way of text alone.
pub fn mixes(depth: u32) -> Vec<Table> {
    let all = 1 << depth;
    let routes = || {
        (0..all)
            .map(|index| format!("{}/end{index}", mix(depth, index)))
            .collect::<Vec<_>>()
    };
    let path = |end: String| vec![format!("{}/{end}", mix(depth, 0))];
    vec![
        Table::new(format!("d={depth} miss"), routes(), path("zzz".to_owned())).miss(),
        Table::new(
            format!("d={depth} first"),
            routes(),
            path("end0".to_owned()),
        ),
        Table::new(
            format!("d={depth} middle"),
            routes(),
            path(format!("end{}", all / 2)),
        ),
        Table::new(
            format!("d={depth} last"),
            routes(),
            path(format!("end{}", all - 1)),
        ),
    ]
}

/// The same with one end for all, so that nothing but the text on the way tells the routes apart, and without the
/// route of text alone.
pub fn one_end(depth: u32) -> Vec<Table> {
    let routes = || {
        (1..1 << depth)
            .map(|index| format!("{}/end", mix(depth, index)))
            .collect::<Vec<_>>()
    };
    let path = |end: &str| vec![format!("{}/{end}", mix(depth, 0))];
    vec![
        Table::new(format!("d={depth} one end, miss"), routes(), path("x")).miss(),
        Table::new(format!("d={depth} one end, hit"), routes(), path("end")),
    ]
}

/// Nothing to tell routes apart by: texts inside of segments alone. Ours is bounded by the nodes of the table.
pub fn no_text(depth: u32) -> Vec<Table> {
    let routes = (0..1_u32 << depth).map(|index| {
        let segments = (0..depth).map(|place| match index >> place & 1 {
            0 => format!("/u{{p{place}}}"),
            _ => format!("/{{p{place}}}"),
        });
        format!("{}/{{q}}z", segments.collect::<String>())
    });
    let path = format!("{}/x", "/ux".repeat(depth as usize));
    vec![
        Table::new(
            format!("d={depth} no text, miss"),
            routes.collect(),
            vec![path],
        )
        .miss(),
    ]
}

/// Long and many.
pub fn worst() -> Vec<Table> {
    let long = "x".repeat(8 << 10);
    let nested: Vec<_> = (1..=256)
        .map(|len| format!("/{}", "a".repeat(len)))
        .collect();
    let siblings: Vec<_> = (0..4096)
        .map(|index| format!("/{}{index:04}", "s".repeat(40)))
        .collect();
    vec![
        Table::new(
            "8 KiB parameter",
            vec!["/{p1}/end".to_owned()],
            vec![format!("/{long}/end")],
        ),
        Table::new(
            "8 KiB prefix, miss",
            vec![format!("/{long}/end")],
            vec![format!("/{long}/ene")],
        )
        .miss(),
        Table::new("256 nested prefixes", nested.clone(), nested),
        Table::new(
            "4,096 siblings that differ late",
            siblings.clone(),
            siblings,
        ),
        Table::new(
            "4,096 slashes, miss",
            vec!["/a/{p1}".to_owned(), "/{p0}/b".to_owned()],
            vec!["/".repeat(4096)],
        )
        .miss(),
    ]
}

/// Five parameters in a segment, and more dashes than they have. With many, the others try all ways.
pub fn in_segment() -> Vec<Table> {
    let tables = [8, 16, 24, 2_000].into_iter().map(|dashes| {
        let route = "/{a}-{b}-{c}-{d}-{e}.end".to_owned();
        let path = format!("/{}", "x-".repeat(dashes));
        let name = format!("in a segment, {dashes} dashes, miss");
        let mut table = Table::new(name, vec![route], vec![path]).miss();
        table.alone = dashes > 24;
        table
    });
    tables.collect()
}

/// Shapes that only we have.
pub fn rich() -> Vec<Table> {
    let table = |name: &str, routes: &[&str], path: &str| {
        let routes = routes.iter().map(ToString::to_string).collect();
        Table::new(name, routes, vec![path.to_owned()])
    };
    vec![
        table("/{x}", &["/{x}"], "/12345"),
        table("/{id:[0-9]+}", &["/{id:[0-9]+}"], "/12345"),
        table(
            "/{id:uuid}",
            &["/{id:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}}"],
            "/123e4567-e89b-12d3-a456-426614174000",
        ),
        table("/{a}-{b}.{ext}", &["/{a}-{b}.{ext}"], "/photo-1.png"),
        table("/user-{id} beside /{x}", &["/{x}", "/user-{id}"], "/user-7"),
        table(
            "/{x} behind four that fail",
            &["/{x}", "/user-{id}", "/{a}.png", "/{n:[0-9]+}", "/{a}:run"],
            "/gordon",
        ),
        table(
            "/{date:re}-{slug}",
            &["/{date:[0-9]{4}-[0-9]{2}}-{slug}"],
            "/2024-05-a-slug",
        ),
        table("/files/*", &["/files/*"], "/files/a/b/c"),
        table("an escape", &["/user/{name}"], "/user/gor%20don"),
    ]
}

/// Sixteen parameters, the most that need no allocation.
pub fn sixteen() -> Table {
    let route = (0..16).map(|index| format!("/{{p{index}}}")).collect();
    Table::new("param16", vec![route], vec!["/value".repeat(16)])
}
