//! A report of the launcher as it is read: lines of words with tabs between them. `on` and `off` tell of a
//! layer, `fail` of the step that did not work, `exec` that the program is next. The report's end
//! after `exec` and without `fail` means that the program runs.

/// One layer as it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub name: String,
    pub on: bool,
    /// What shows that it is on, or why it is not.
    pub evidence: String,
}

/// A report as it was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    pub layers: Vec<Layer>,
    /// Step, errno, on what.
    pub failed: Option<(String, i32, String)>,
    /// The program was about to run.
    pub exec: bool,
}

impl Received {
    pub fn parse(text: &str) -> Self {
        let mut received = Self::default();
        for line in text.lines() {
            let mut words = line.splitn(4, '\t');
            let mut next = || words.next().unwrap_or_default().to_owned();
            match next().as_str() {
                state @ ("on" | "off") => {
                    let on = state == "on";
                    received.layers.push(Layer { name: next(), on, evidence: next() });
                }
                "fail" if received.failed.is_none() => {
                    received.failed = Some((next(), next().parse().unwrap_or(0), next()));
                }
                "exec" => received.exec = true,
                _ => {}
            }
        }
        received
    }

    /// The program runs, as far as the launcher could see.
    pub fn is_running(&self) -> bool {
        self.exec && self.failed.is_none()
    }
}
