//! What stands before a value, which tells what it is where its form does not.

use std::sync::LazyLock;

use regex::Regex;

/// How many bytes before a value are looked at.
const BEFORE: usize = 48;

/// The text before a value, in its own line or sentence.
pub(super) struct Context<'a>(&'a str);

impl<'a> Context<'a> {
    /// What stands before the byte `at`.
    pub(super) fn before(text: &'a str, at: usize) -> Self {
        let mut start = at.saturating_sub(BEFORE);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        Self(&text[start..at])
    }

    fn matches(&self, pattern: &Regex) -> bool {
        pattern.is_match(self.0)
    }

    pub(super) fn speaks_of_companies(&self) -> bool {
        static PATTERN: LazyLock<Regex> =
            LazyLock::new(|| pattern(r"(?i)\b(siren|rcs|r\.c\.s|siège|société|registre)\b"));
        self.matches(&PATTERN)
    }

    pub(super) fn speaks_of_cards(&self) -> bool {
        static PATTERN: LazyLock<Regex> =
            LazyLock::new(|| pattern(r"(?i)\b(cards?|cartes?|visa|mastercard|maestro|amex|cb|cc|pan)\b"));
        self.matches(&PATTERN)
    }

    pub(super) fn speaks_of_social_security(&self) -> bool {
        static PATTERN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\b(ssn|ss#|social[ -]security)\b"));
        self.matches(&PATTERN)
    }

    /// Whether the words just before are those that a telephone number follows.
    pub(super) fn announces_a_phone(&self) -> bool {
        static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
            pattern(
                r"(?ix)
                (?: \b(?: t[ée]l[ée]?phones? | t[ée]l | phones? | mobiles? | cell(?:phone)? | portable | fax | gsm | desk
                      | whatsapp | telefon | office | home | work | landline | fixe | standard | num[ée]ro )\b
                    (?: \s+ (?: number | no | n° | num[ée]ro | is | est | nr ) \b )*
                  | \b(?: call | reach | ring | dial | text | contact | phone | answer | answering ) \b
                    (?: \s+ \w+ ){0,2}? \s+ (?: at | on | to ) \b
                  | \b messages? \s+ (?: to | on | at ) \b
                  | \b (?: joignable | joindre | appele[rz] | rappele[rz] | contacte[rz] )\b
                    (?: \s+ \S+ ){0,2}? \s+ (?: au | sur )(?: \s+ le )? \b
                ) [\s:.\#(=|-]* $",
            )
        });
        self.matches(&PATTERN)
    }

    pub(super) fn announces_a_birth(&self) -> bool {
        static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
            pattern(
                r"(?ix) (?: \b n[ée] (?: \(e\) | e | ·e | \.e )? s? \b (?: \s* \(e\) )? (?: \s+ le )?
                          | n[ée]\(e\) (?: \s+ le )?
                          | \b naissance | \b date \s+ of \s+ birth | \b birth \s* (?: date | day ) | \b d\.?o\.?b\b\.?
                          | \b born (?: \s+ on )? | \b n[ée]e? \s+ à \s+ \S+ (?: \s+ le )? )
                      (?: \s+ (?: is | was | est | le | the | on ) )? [\s:,='\[(|-]* $",
            )
        });
        self.matches(&PATTERN)
    }

    pub(super) fn announces_a_vehicle(&self) -> bool {
        static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
            pattern(
                r"(?i)(immatricul\S*|plaques?|véhicule|vehicle|(licen[cs]e|number) plates?|plates?|registration( number)?)\W*(\w{1,8}\W+){0,2}$",
            )
        });
        self.matches(&PATTERN)
    }

    pub(super) fn announces_a_vin(&self) -> bool {
        static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
            pattern(r"(?i)\b(vin|ch[aâ]ssis|vehicle identification number|n° de série)\b\W*(\w{1,8}\W+){0,2}$")
        });
        self.matches(&PATTERN)
    }

    pub(super) fn speaks_of_versions(&self) -> bool {
        static PATTERN: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)(\bversions?|\brelease|\bv\.?)\s*$"));
        self.matches(&PATTERN)
    }
}

/// A pattern of this program.
pub(super) fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant that the tests compile")
}
