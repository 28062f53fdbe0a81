//! The scan of an envelope: where in the text the parts lie that [`Message`](super::Message) keeps.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Reads the named keys of an object and passes over every other key and every other shape.
/// A named key that comes twice is an error: two readers might each believe another one. So might
/// they of a key that differs only in letter case, which goes into `clash`.
macro_rules! picks {
    (@value $map:ident) => {
        $map.next_value()?
    };
    // A field that is there, be it null.
    (@value $map:ident present) => {
        Some($map.next_value::<&RawValue>()?)
    };
    ($(#[$doc:meta])* $name:ident {
        $($key:literal => $field:ident: $type:ty $(, $how:ident)?;)*
    }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name<'a> {
            $(pub(super) $field: $type,)*
            /// What is wrong with a key that a reader blind to letter case takes for a named one.
            pub(super) clash: Option<&'static str>,
            nothing: PhantomData<&'a ()>,
        }

        impl<'de: 'a, 'a> Deserialize<'de> for $name<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Walk;
                impl<'de> Visitor<'de> for Walk {
                    type Value = $name<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("any value")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        #[derive(Default)]
                        struct Seen {
                            $($field: bool,)*
                        }
                        let mut found = $name::default();
                        let mut seen = Seen::default();
                        while let Some(Key(key)) = map.next_key()? {
                            match key.as_ref() {
                                $($key => {
                                    if std::mem::replace(&mut seen.$field, true) {
                                        return Err(de::Error::duplicate_field($key));
                                    }
                                    found.$field = picks!(@value map $($how)?);
                                })*
                                key => {
                                    $(if folds_to(key, $key) {
                                        found.clash = Some(concat!(
                                            "a key differs from `", $key, "` only in letter case"
                                        ));
                                    })*
                                    map.next_value::<IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(found)
                    }

                    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                        while seq.next_element::<IgnoredAny>()?.is_some() {}
                        Ok($name::default())
                    }

                    fn visit_unit<E>(self) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }

                    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }

                    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }

                    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }

                    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }

                    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                        Ok($name::default())
                    }
                }
                deserializer.deserialize_any(Walk)
            }
        }
    };
}

picks! {
    Envelope {
        "jsonrpc" => jsonrpc: Option<&'a RawValue>;
        "id" => id: Option<&'a RawValue>, present;
        "method" => method: Option<&'a RawValue>, present;
        "params" => params: Option<Picked<'a>>;
        "result" => result: Option<&'a RawValue>, present;
        "error" => error: Option<&'a RawValue>;
    }
}

impl Envelope<'_> {
    /// The first clash at any depth that is looked at.
    pub(super) fn clash(&self) -> Option<&'static str> {
        let params = self.params.as_ref();
        self.clash
            .or_else(|| params?.clash)
            .or_else(|| params?.meta.clash)
            .or_else(|| params?.meta.related_task.clash)
    }
}

picks! {
    /// The interesting parts of `params`.
    Picked {
        "name" => name: Option<&'a RawValue>;
        "uri" => uri: Option<&'a RawValue>;
        "taskId" => task_id: Option<&'a RawValue>;
        "requestId" => request_id: Option<&'a RawValue>;
        "progressToken" => progress_of: Option<&'a RawValue>;
        "task" => task: Option<IgnoredAny>;
        "requestState" => request_state: Option<&'a RawValue>;
        "inputResponses" => responses: Option<&'a RawValue>;
        "_meta" => meta: Meta<'a>;
    }
}

picks! {
    Meta {
        "progressToken" => token: Option<&'a RawValue>;
        "io.modelcontextprotocol/protocolVersion" => version: Option<&'a RawValue>;
        "io.modelcontextprotocol/clientCapabilities" => capabilities: Option<&'a RawValue>;
        "io.modelcontextprotocol/logLevel" => level: Option<&'a RawValue>;
        "io.modelcontextprotocol/subscriptionId" => subscription: Option<&'a RawValue>;
        "io.modelcontextprotocol/related-task" => related_task: RelatedTask<'a>;
    }
}

picks! {
    RelatedTask {
        "taskId" => task_id: Option<&'a RawValue>;
    }
}

/// Whether the key is the other one to a reader that is blind to letter case, such as Go's
/// `encoding/json`, where the last one wins.
fn folds_to(key: &str, name: &str) -> bool {
    if key.is_ascii() {
        // The names are, so this is what folding comes to: most keys have another length.
        return key.eq_ignore_ascii_case(name);
    }
    key.chars().map(fold).eq(name.chars().map(fold))
}

/// The letters beyond ASCII that some reader takes for one of ASCII: by Unicode's folding, the
/// long s and the Kelvin sign, and in Java the i with a dot and the one without.
fn fold(letter: char) -> char {
    match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        'İ' | 'ı' => 'i',
        other => other.to_ascii_lowercase(),
    }
}

/// An object's key, without an allocation where it holds no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
