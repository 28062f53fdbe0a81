//! What a role is shown is what it can call, and nothing else.

use super::{
    super::listing::{Item, List},
    *,
};
use crate::{
    config::{Config, RoleRule},
    policy::Credential,
};

fn list(keys: &[&str]) -> Option<Arc<List>> {
    let items = keys.iter().map(|key| {
        let raw = serde_json::json!({"name": key, "uri": key}).to_string();
        Item { key: (*key).to_owned(), raw }
    });
    Some(Arc::new(List { items: items.collect(), whole: None }))
}

struct World {
    config: Config,
    listings: Vec<Arc<Listing>>,
}

impl World {
    fn new(allow: &[&str], deny: &[&str], servers: &[(&str, Listing)]) -> Self {
        let globs = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        let rule = RoleRule::Globs { allow: Some(globs(allow)), deny: globs(deny) };
        let config = Config {
            servers: servers.iter().map(|(name, _)| Server::named(*name)).collect(),
            roles: Some(vec![("r".into(), rule)]),
            ..Config::default()
        };
        let listings = servers.iter().map(|(_, listing)| Arc::new(listing.clone())).collect();
        World { config, listings }
    }

    fn view(&self, placeholder: bool) -> View {
        let policy = Policy::new(&self.config, 1, Some("r")).unwrap();
        let who = policy.identify(&Credential::Own, None).unwrap();
        let sources = self.config.servers.iter().zip(&self.listings);
        let sources: Vec<Source<'_>> = sources
            .map(|(server, listing)| Source {
                server,
                name: server.name.as_str().into(),
                listing: Some(Arc::clone(listing)),
                placeholder,
            })
            .collect();
        aggregate(&sources, &policy, &who)
    }
}

fn tools(names: &[&str]) -> Listing {
    Listing { tools: list(names), ..Listing::default() }
}

#[test]
fn a_placeholder_is_callable_where_it_may_be_shown() {
    for (allow, deny, expected) in [
        (&["filesystem_read*"][..], &[][..], false),
        (&["filesystem_*"], &[], true),
        (&["_filesystem_*", "filesystem_read*"], &[], true),
        (&["*"], &["filesystem_*"], false),
        (&["_filesystem_connect"], &[], false), // but nothing of the server itself
    ] {
        let world = World::new(allow, deny, &[("filesystem", tools(&["read_file"]))]);
        for placeholder in [true, false] {
            let view = world.view(placeholder);
            let found = view.tools.find("_filesystem_connect");
            assert_eq!(found.is_some(), expected, "{allow:?} {deny:?} {placeholder}");
            let listed = view.tools.listed().any(|shown| shown.exposed == "_filesystem_connect");
            assert_eq!(listed, expected && placeholder, "{allow:?} {deny:?}");
        }
    }
}

#[test]
fn the_gateways_own_words_lead_to_no_backend() {
    let names = ["gateway_status", "_b_connect", "plain"];
    let servers = [("a", tools(&names)), ("b", tools(&["x"]))];
    let view = World::new(&["a_*"], &[], &servers).view(false);
    assert!(view.tools.find("plain").is_some());
    assert!(view.tools.find("a_gateway_status").is_some());
    assert!(view.tools.find("gateway_status").is_none());
    assert!(view.tools.find("_b_connect").is_none());
    let view = World::new(&["*"], &[], &servers).view(false);
    assert_eq!(view.tools.find("gateway_status").unwrap().route, Route::Status);
    assert!(matches!(view.tools.find("_b_connect").unwrap().route, Route::Connect { .. }));
}

#[test]
fn the_first_backend_that_may_show_a_uri_has_it() {
    let both = |uris: &[&str]| Listing {
        resources: list(uris),
        templates: list(uris),
        ..Listing::default()
    };
    let servers = [("a", both(&["x:1"])), ("b", both(&["x:1", "x:2"])), ("c", both(&["x:2"]))];
    let place = |view: &View| -> Vec<String> {
        let all = view.resources.iter().chain(&view.templates);
        all.map(|located| format!("{}={}", located.server, located.uri)).collect()
    };
    let view = World::new(&["*"], &[], &servers).view(false);
    assert_eq!(place(&view), ["a=x:1", "b=x:2", "a=x:1", "b=x:2"]);
    let view = World::new(&["*"], &["a_*"], &servers).view(false);
    assert_eq!(place(&view), ["b=x:1", "b=x:2", "b=x:1", "b=x:2"]);
}
