//! The file as a tree in which every value knows its line and column.
//!
//! Built from the parser's events: aliases and merge keys (`<<`) are resolved here, and duplicate
//! keys are found here. Scalars keep their text as written; what a text *means* is `scalar`'s
//! matter, and which keys are allowed is the reader's. No input can make it recurse or grow without
//! bound.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::padding::Padded;

/// Values in one file, with aliases counted each time they are used.
const MAX_VALUES: usize = 100_000;
const MAX_DEPTH: usize = 64;

/// A place in the file, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) kind: Kind,
    /// Values in this subtree, aliases expanded: what an alias to it costs.
    weight: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// `plain` is false for text that was quoted, a block, or tagged `!!str`: never a bool or null.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: At,
    pub(super) value: Rc<Node>,
    /// The value was written with an anchor here (`base: &b …`).
    pub(super) anchored: bool,
}

/// Something wrong with the YAML itself.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: At,
    pub(super) place: String,
    pub(super) what: String,
}

/// Reads one document. `None` with no fault is an empty file; faults may come with a tree.
pub(super) fn parse(text: &str) -> (Option<Rc<Node>>, Vec<Fault>) {
    let mut source = Padded::new(text);
    loop {
        let mut builder = Builder::default();
        let fault = match builder.read(&source) {
            Ok(()) => return (builder.root, builder.faults),
            Err(Halt::Fault(fault)) => fault,
            Err(Halt::Syntax(error)) if source.pad(&error) => continue,
            Err(Halt::Syntax(error)) => Fault {
                at: source.at(error.marker()),
                place: String::new(),
                what: format!("not valid YAML: {}", error.info()),
            },
        };
        builder.faults.push(fault);
        return (None, builder.faults);
    }
}

/// What ends the reading of a file early.
enum Halt {
    Syntax(ScanError),
    Fault(Fault),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<Frame>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    faults: Vec<Fault>,
    spent: usize,
}

/// A list or map whose end has not come yet.
struct Frame {
    at: At,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Rc<Node>>),
    Map {
        entries: Vec<Entry>,
        lines: HashMap<String, usize>,
        merges: Vec<Rc<Node>>,
        key: Option<Key>,
    },
}

struct Key {
    text: String,
    plain: bool,
    at: At,
}

impl Builder {
    fn read(&mut self, source: &Padded) -> Result<(), Halt> {
        let mut parser = Parser::new_from_str(source.text());
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(Halt::Syntax)?;
            let at = source.at(&span.start);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let what = "a second document starts here; write one only";
                        return Err(self.fault(at, what).into());
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.spend(at, 1)?;
                    let plain = self.is_plain(at, style, tag.as_deref());
                    let nothing = style == ScalarStyle::Plain && text.is_empty();
                    let at = self.key_at().filter(|_| nothing).unwrap_or(at);
                    let text = text.into_owned();
                    let kind = Kind::Scalar { text, plain };
                    self.finish(Node { at, kind, weight: 1 }, anchor)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.check_tag(at, tag.as_deref(), "seq");
                    self.start(at, anchor, Items::List(Vec::new()))?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.check_tag(at, tag.as_deref(), "map");
                    let items = Items::Map {
                        entries: Vec::new(),
                        lines: HashMap::new(),
                        merges: Vec::new(),
                        key: None,
                    };
                    self.start(at, anchor, items)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end()?,
                Event::Alias(anchor) => {
                    let Some(node) = self.anchors.get(&anchor).cloned() else {
                        let what = "this alias stands inside its own anchor";
                        return Err(self.fault(at, what).into());
                    };
                    self.spend(at, node.weight)?;
                    self.place(node, at, false)?;
                }
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    fn start(&mut self, at: At, anchor: usize, items: Items) -> Result<(), Fault> {
        self.spend(at, 1)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(self.fault(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Frame { at, anchor, items });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(Frame { at, anchor, items }) = self.open.pop() else {
            return Ok(());
        };
        let kind = match items {
            Items::List(list) => Kind::List(list),
            Items::Map { entries, merges, .. } => Kind::Map(self.merge(entries, merges)?),
        };
        let weight = match &kind {
            Kind::List(list) => list.iter().map(|node| node.weight).sum(),
            Kind::Map(map) => map.iter().map(|entry| entry.value.weight + 1).sum(),
            Kind::Scalar { .. } => 0,
        };
        let weight = weight + 1;
        self.finish(Node { at, kind, weight }, anchor)
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        let (at, node) = (node.at, Rc::new(node));
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node, at, anchor > 0)
    }

    /// Puts a whole node where it belongs: the root, the next item, a key or that key's value.
    fn place(&mut self, node: Rc<Node>, at: At, anchored: bool) -> Result<(), Fault> {
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let (entries, lines, merges, key) = match &mut frame.items {
            Items::List(list) => {
                list.push(node);
                return Ok(());
            }
            Items::Map { entries, lines, merges, key } => (entries, lines, merges, key),
        };
        let Some(Key { text, plain, at }) = key.take() else {
            let Kind::Scalar { text, plain } = &node.kind else {
                return Err(self.fault(at, "a key must be text, not a list or a map"));
            };
            let (text, plain) = (text.clone(), *plain);
            *key = Some(Key { text, plain, at });
            return Ok(());
        };
        if let Some(first) = lines.get(&text) {
            let what = format!("`{text}` is written twice, first on line {first}");
            let fault = self.fault(at, what);
            self.faults.push(fault);
            return Ok(());
        }
        lines.insert(text.clone(), at.line);
        if plain && text == "<<" {
            merges.push(node);
        } else {
            entries.push(Entry { key: text, at, value: node, anchored });
        }
        Ok(())
    }

    /// Own keys win over merged ones, and in a list of maps an earlier one over a later one. As in
    /// PyYAML the merged keys come first.
    fn merge(&mut self, own: Vec<Entry>, merges: Vec<Rc<Node>>) -> Result<Vec<Entry>, Fault> {
        let mut sources: Vec<&Rc<Node>> = Vec::new();
        for node in &merges {
            match &node.kind {
                Kind::List(list) => sources.extend(list),
                _ => sources.push(node),
            }
        }
        if sources.is_empty() {
            return Ok(own);
        }
        let mut merged: Vec<Entry> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        for node in sources {
            let Kind::Map(entries) = &node.kind else {
                let fault = self.fault(node.at, "`<<` takes a map or a list of maps");
                self.faults.push(fault);
                continue;
            };
            self.spend(node.at, entries.len())?;
            for entry in entries {
                if !index.contains_key(&entry.key) {
                    self.spend(node.at, entry.value.weight)?;
                    index.insert(entry.key.clone(), merged.len());
                    merged.push(entry.clone());
                }
            }
        }
        for entry in own {
            match index.get(&entry.key).and_then(|&i| merged.get_mut(i)) {
                Some(slot) => *slot = entry,
                None => merged.push(entry),
            }
        }
        Ok(merged)
    }

    fn is_plain(&mut self, at: At, style: ScalarStyle, tag: Option<&Tag>) -> bool {
        match tag {
            Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
                "int" | "float" | "bool" | "null" => true,
                other => {
                    if other != "str" {
                        self.check_tag(at, Some(tag), "str");
                    }
                    false
                }
            },
            Some(tag) => {
                self.check_tag(at, Some(tag), "str");
                false
            }
            None => style == ScalarStyle::Plain,
        }
    }

    fn check_tag(&mut self, at: At, tag: Option<&Tag>, natural: &str) {
        let Some(tag) = tag else { return };
        let known = tag.is_yaml_core_schema() && tag.suffix == natural;
        let bare = tag.handle.is_empty() && tag.suffix == "!";
        if !known && !bare {
            let shown = if tag.is_yaml_core_schema() {
                format!("!!{}", tag.suffix)
            } else {
                tag.to_string()
            };
            let fault = self.fault(at, format!("the tag `{shown}` is not supported"));
            self.faults.push(fault);
        }
    }

    fn spend(&mut self, at: At, values: usize) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(values);
        if self.spent > MAX_VALUES {
            return Err(self.fault(at, format!("more than {MAX_VALUES} values, aliases expanded")));
        }
        Ok(())
    }

    /// Where the key stands whose value comes next: `command:` with nothing behind it is reported
    /// there, and not on the line where the parser noticed.
    fn key_at(&self) -> Option<At> {
        match &self.open.last()?.items {
            Items::Map { key, .. } => key.as_ref().map(|key| key.at),
            Items::List(_) => None,
        }
    }

    fn fault(&self, at: At, what: impl Into<String>) -> Fault {
        let mut place = String::new();
        for frame in &self.open {
            match &frame.items {
                Items::List(list) => place.push_str(&format!("[{}]", list.len())),
                Items::Map { key: Some(key), .. } => {
                    if !place.is_empty() {
                        place.push('.');
                    }
                    place.push_str(&key.text);
                }
                Items::Map { key: None, .. } => {}
            }
        }
        Fault { at, place, what: what.into() }
    }
}
