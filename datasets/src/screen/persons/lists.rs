//! Words that stand beside the names of persons, or inside them: titles, particles, and what makes a name that of a
//! company, a street or a place.

use crate::screen::names::folded;

/// Titles, folded. "M" needs its dot or a name after it.
pub(super) const TITLES: &[&str] = &[
    "mr",
    "mrs",
    "ms",
    "miss",
    "mister",
    "dr",
    "doctor",
    "prof",
    "professor",
    "sir",
    "madam",
    "lady",
    "lord",
    "rev",
    "officer",
    "detective",
    "sergeant",
    "judge",
    "captain",
    "nurse",
    "m",
    "mm",
    "mme",
    "mmes",
    "mlle",
    "monsieur",
    "madame",
    "mademoiselle",
    "maitre",
    "me",
    "docteur",
    "professeur",
];

/// Small words inside names.
pub(super) const PARTICLES: &[&str] = &[
    "de", "du", "des", "la", "le", "les", "d", "van", "von", "der", "den", "ter", "di", "da", "do", "dos", "das",
    "del", "della", "al", "el", "bin", "ben", "ibn", "y", "zu",
];

/// Words behind a name that make it a company, a place or a street, folded.
pub(super) const NOT_AFTER: &[&str] = &[
    "sa",
    "sas",
    "sarl",
    "sasu",
    "eurl",
    "snc",
    "inc",
    "ltd",
    "llc",
    "llp",
    "plc",
    "corp",
    "corporation",
    "company",
    "co",
    "group",
    "groupe",
    "gmbh",
    "ag",
    "bv",
    "nv",
    "oy",
    "ab",
    "bank",
    "banque",
    "university",
    "universite",
    "hospital",
    "school",
    "college",
    "institute",
    "foundation",
    "association",
    "associates",
    "partners",
    "holdings",
    "industries",
    "technologies",
    "solutions",
    "systems",
    "street",
    "st",
    "road",
    "rd",
    "avenue",
    "ave",
    "drive",
    "lane",
    "boulevard",
    "square",
    "park",
    "bridge",
    "airport",
    "county",
    "river",
    "lake",
    "beach",
    "island",
    "islands",
    "stadium",
    "church",
    "cathedral",
    "museum",
    "award",
    "prize",
    "fils",
    "freres",
    "cie",
];

/// Words before a name that make it a company, a place or a street, folded.
pub(super) const NOT_BEFORE: &[&str] = &[
    "societe",
    "entreprise",
    "company",
    "cabinet",
    "groupe",
    "group",
    "firm",
    "rue",
    "avenue",
    "boulevard",
    "chemin",
    "place",
    "allee",
    "impasse",
    "quai",
    "cours",
    "square",
    "lycee",
    "college",
    "ecole",
    "school",
    "university",
    "universite",
    "hopital",
    "hospital",
    "gare",
    "pont",
    "saint",
    "sainte",
    "st",
    "ste",
    "mount",
    "lake",
    "port",
    "fort",
    "san",
    "santa",
    "sao",
];

/// Words that never begin a name.
pub(super) const NEVER_FIRST: &[&str] = &[
    "the", "this", "that", "these", "those", "with", "when", "what", "where", "who", "why", "how", "your", "from",
    "they", "some", "even", "many", "just", "then", "will", "can", "any", "all", "see", "let", "for", "and", "but",
    "our", "over", "under", "like", "unlike", "call", "dear", "une", "des", "les", "mon", "son", "ses", "nos", "vos",
    "leur", "cette", "ces", "pour", "par", "avec", "sans", "dans", "sur", "sous", "selon", "depuis", "bot",
];

/// Words before a lone name that make it a place more likely.
pub(super) const PLACE_BEFORE: &[&str] = &["in", "at", "near", "en", "vers", "depuis", "the"];

/// Whether a word is a title, such as "Mme".
pub(in crate::screen) fn is_title_word(word: &str) -> bool {
    TITLES.contains(&folded(word).as_ref())
}

/// Whether a word is a small one inside names, such as "de".
pub(in crate::screen) fn is_particle(word: &str) -> bool {
    PARTICLES.contains(&folded(word).as_ref())
}

/// Whether a folded name means something else beside a name, so that it is no good alias.
pub(in crate::screen) fn is_reserved(name: &str) -> bool {
    [TITLES, PARTICLES, NOT_AFTER, NOT_BEFORE, NEVER_FIRST, PLACE_BEFORE].iter().any(|list| list.contains(&name))
}
