//! The words of a report, in English and French: **the one table**, a line a word.

use serde::Serialize;

use crate::language::Language;

/// Makes the table: `name: "English", "French"`.
macro_rules! words {
    ($($name:ident: $english:literal, $french:literal;)*) => {
        /// The words by their names; the page's template takes them from here too.
        #[derive(Debug, Serialize)]
        pub(super) struct Words {
            $(pub(super) $name: &'static str,)*
        }

        static ENGLISH: Words = Words { $($name: $english,)* };
        static FRENCH: Words = Words { $($name: $french,)* };
    };
}

words! {
    code: "en", "fr";
    report: "Run report", "Rapport d’entraînement";
    comparison: "Comparison of runs", "Comparaison d’entraînements";
    contents: "Contents", "Sommaire";
    made: "Made by greffon", "Produit par greffon";
    self_contained: "This file is complete in itself: it loads nothing and runs no script.",
        "Ce fichier se suffit à lui-même : il ne charge rien et n’exécute aucun script.";

    finished: "finished", "terminé";
    running: "running", "en cours";
    interrupted: "interrupted, state saved", "interrompu, état enregistré";
    failed: "failed", "échoué";
    cut_off: "cut off", "interrompu brutalement";
    cut_off_told: "This run did not end: its process is gone, and nothing says why. What follows is what it had written.",
        "Cet entraînement n’a pas pris fin : son processus a disparu sans dire pourquoi. Voici ce qu’il avait écrit.";
    running_told: "This run is under way. What follows is what it has written so far.",
        "Cet entraînement est en cours. Voici ce qu’il a écrit jusqu’ici.";
    interrupted_told: "This run was stopped and can be resumed. What follows is what it had done by then.",
        "Cet entraînement a été arrêté et peut reprendre. Voici ce qu’il avait fait jusque-là.";
    failed_told: "This run ended with an error.", "Cet entraînement s’est terminé par une erreur.";
    torn: "The last line of its metrics was cut off and is left out.",
        "La dernière ligne de ses mesures est coupée ; elle est laissée de côté.";
    no_steps: "No step was recorded.", "Aucun pas n’a été enregistré.";

    best_loss: "Lowest validation loss", "Meilleure perte de validation";
    last_loss: "Training loss, last", "Perte d’apprentissage, dernière";
    energy: "Energy", "Énergie";
    peak_memory: "Highest memory seen", "Mémoire maximale observée";
    exact_match: "Exact match", "Réponses exactes";
    forgetting: "Forgetting", "Oubli";
    passed: "within its limits", "dans ses limites";
    refused: "beyond its limits", "au-delà de ses limites";
    at_step: "step", "pas";

    base: "Base", "Modèle de base";
    base_digest: "SHA-256 of its weights", "SHA-256 de ses poids";
    status: "Status", "État";
    reason: "Reason", "Motif";
    steps: "Steps", "Pas";
    of_planned: "of", "sur";
    started: "Started", "Début";
    updated: "Last written", "Dernière écriture";
    time_in_steps: "Time in steps", "Temps passé en pas";
    machine: "Machine", "Machine";
    cpus: "CPUs", "processeurs";
    processes: "Processes", "Processus";
    versions: "Versions", "Versions";
    git: "Recipe’s git commit", "Commit git de la recette";
    no_git: "outside a repository", "hors d’un dépôt";
    seed: "Seed", "Graine";
    folder: "Folder", "Dossier";
    recipe_file: "Recipe", "Recette";
    size: "Size on disk", "Taille sur disque";
    trained_numbers: "Trained numbers", "Nombres entraînés";
    adapted_modules: "Adapted modules", "Modules adaptés";

    training: "Training", "Entraînement";
    loss: "Loss", "Perte";
    loss_unit: "nats per supervised token", "nats par jeton supervisé";
    train_raw: "training, each step", "apprentissage, à chaque pas";
    train_smooth: "training, smoothed", "apprentissage, lissée";
    validation: "validation", "validation";
    replay: "replayed", "réapprise";
    kl: "Divergence from the base (KL)", "Divergence d’avec la base (KL)";
    kl_unit: "nats per token", "nats par jeton";
    learning_rate: "Learning rate", "Taux d’apprentissage";
    tokens_per_second: "Tokens per second", "Jetons par seconde";
    gradient_norm: "Gradient norm, before clipping", "Norme du gradient, avant écrêtage";
    memory: "Memory", "Mémoire";
    memory_unit: "GB held by the first process, after each step", "Go du premier processus, après chaque pas";
    predicted_peak: "predicted peak", "maximum prévu";
    energy_unit: "Wh, of all processes", "Wh, de tous les processus";
    each_step: "each step", "à chaque pas";
    smoothed: "smoothed", "lissé";
    step_axis: "step", "pas";
    thinned: "Curves with more points than the plot has columns are drawn by the smallest and the largest value of each column, so no spike is lost.",
        "Une courbe qui a plus de points que le dessin n’a de colonnes est tracée par le minimum et le maximum de chaque colonne : aucun pic ne se perd.";

    plan: "Plan and fact", "Prévu et constaté";
    predicted: "Predicted", "Prévu";
    measured: "Measured", "Constaté";
    deviation: "Deviation", "Écart";
    training_time: "Time of the steps", "Durée des pas";
    plan_note: "Memory is read after each step; a peak within a step is not seen.",
        "La mémoire est lue après chaque pas ; un maximum au sein d’un pas n’est pas vu.";

    stage: "Stage", "Étape";
    stage_data: "data and weights", "données et poids";
    stage_train: "training", "entraînement";
    stage_evaluate: "measuring what was forgotten", "mesure de l’oubli";
    stage_export: "export", "export";
    processor: "Processor", "Processeur";
    card: "Card", "Carte";
    lamp: "As much as a lamp of 10 W takes in", "Autant qu’une lampe de 10 W en";
    car: "As much CO2e as a car of 120 g/km emits on", "Autant de CO2e qu’une voiture à 120 g/km sur";
    total: "Total", "Total";
    share: "Share", "Part";
    pue: "Data centre’s factor (PUE)", "Facteur du centre de données (PUE)";
    with_pue: "With the data centre’s part", "Avec la part du centre de données";
    emitted: "Emitted", "Émissions";
    grid: "Electricity", "Électricité";
    no_grid: "not reckoned: the recipe names no country", "non calculées : la recette ne nomme aucun pays";
    per_million: "For a million tokens", "Pour un million de jetons";

    evaluation: "Evaluation", "Évaluation";
    not_evaluated: "Not evaluated: greffon eval asks base and adapter held-out questions.",
        "Non évalué : greffon eval pose à la base et à l’adaptateur des questions mises de côté.";
    metric: "Metric", "Mesure";
    items: "Items", "Questions";
    of_base: "Base", "Base";
    of_adapter: "Adapter", "Adaptateur";
    difference: "Difference", "Différence";
    interval: "95 % interval", "Intervalle à 95 %";
    intervals_note: "Intervals: paired bootstrap over the items.", "Intervalles : bootstrap apparié sur les questions.";
    measured_on: "Measured on", "Mesuré le";
    stale: "Measured on an earlier state of the adapter: its files have changed since.",
        "Mesuré sur un état antérieur de l’adaptateur : ses fichiers ont changé depuis.";

    not_measured: "Not measured.", "Non mesuré.";
    task: "Task", "Tâche";
    lost_gained: "Lost / gained", "Perdues / gagnées";
    mean_of_tasks: "mean of the tasks", "moyenne des tâches";
    kl_to_base: "KL to the base", "KL vers la base";
    limit: "Limit", "Limite";
    lost: "Lost", "Perdu";
    at_least: "At least", "Au moins";
    allowed: "Allowed", "Permis";
    outcome: "Outcome", "Verdict";
    within: "within", "respectée";
    beyond: "beyond", "dépassée";
    not_checked: "not checked", "non vérifiée";
    bits_per_byte: "bits per byte", "bits par octet";
    points: "points", "points";
    mcnemar: "p (McNemar)", "p (McNemar)";
    gate: "Gate", "Barrière";
    confidence: "confidence", "confiance";
    contaminated: "questions were trained on, so they tell nothing", "questions ont été apprises et ne disent donc rien";
    chat_format: "Chat format", "Format de dialogue";
    chat_turns: "turns", "tours";
    chat_stopped: "ended its turn", "tour achevé";
    chat_language: "in the language asked in", "dans la langue de la question";
    chat_refused: "refused", "refus";
    chat_empty: "empty", "vide";

    examples: "Examples before and after", "Exemples avant et après";
    no_examples: "None: they come with an evaluation or a measurement of forgetting.",
        "Aucun : ils viennent d’une évaluation ou d’une mesure de l’oubli.";
    expected: "Expected", "Attendu";
    shown_of: "shown, of", "montrés, sur";
    changed: "Answers that turned right or wrong in the measurement of forgetting",
        "Réponses devenues justes ou fausses dans la mesure de l’oubli";
    gained: "gained", "gagnée";
    lost_answer: "lost", "perdue";

    data: "Data", "Données";
    no_data: "Nothing was recorded.", "Rien n’a été enregistré.";
    source: "Source", "Source";
    used_for: "Used for", "Usage";
    licence: "Licence", "Licence";
    samples: "Samples", "Exemples";
    unknown: "unknown", "inconnu";
    split_train: "training", "apprentissage";
    split_validation: "validation", "validation";
    split_replay: "replay", "réapprentissage";
    counted: "Counted", "Comptes";
    conversations: "Conversations read", "Conversations lues";
    examples_made: "Examples made", "Exemples formés";
    tokens: "Tokens", "Jetons";
    supervised: "Supervised tokens", "Jetons supervisés";
    near_duplicates: "Left out: near-duplicates", "Écartées : quasi-doublons";
    overlong: "Left out: too long", "Écartées : trop longues";
    truncated: "Cut: too long", "Coupées : trop longues";
    unsupervised: "Turns not learned", "Tours non appris";
    told: "What was told of it", "Ce qui en a été dit";
    screening: "Screening", "Filtrage";
    found_nothing: "nothing found", "rien trouvé";
    of_run: "Samples of run", "Exemples de l’entraînement";
    learned: "learned at least once", "appris au moins une fois";
    record_digest: "SHA-256 of the record", "SHA-256 du registre";
    unrecorded: "Nobody recorded what these learned from", "Personne n’a noté de quoi ceux-ci ont appris";

    recipe: "Recipe", "Recette";
    recipe_told: "As it ran, every default written out.", "Telle qu’elle a tourné, chaque valeur par défaut écrite.";
    figures: "Figures", "Chiffres";
    differing: "Recipe values that differ", "Valeurs de recette qui diffèrent";
    none_differ: "None.", "Aucune.";
    key: "Key", "Clé";
    nothing: "none", "aucune";
    losses: "Losses", "Pertes";
    validation_losses: "Validation loss", "Perte de validation";
    training_losses: "Training loss, smoothed", "Perte d’apprentissage, lissée";
}

/// Thin space: between thousands in French, and before a unit.
const THIN: char = '\u{202f}';

impl Language {
    /// The words.
    pub(super) fn words(self) -> &'static Words {
        match self {
            Self::En => &ENGLISH,
            Self::Fr => &FRENCH,
        }
    }

    /// A number with so many decimals, and thousands apart.
    pub(super) fn number(self, value: f64, decimals: usize) -> String {
        let (comma, apart) = match self {
            Self::En => ('.', ','),
            Self::Fr => (',', THIN),
        };
        let plain = format!("{:.decimals$}", value.abs());
        let (whole, part) = plain.split_once('.').unwrap_or((&plain, ""));
        // A minus before what is shown as nothing would say something.
        let is_negative = value < 0.0 && plain.bytes().any(|digit| (b'1'..=b'9').contains(&digit));
        let mut text = String::from(if is_negative { "−" } else { "" });
        for (index, digit) in whole.char_indices() {
            if index > 0 && (whole.len() - index).is_multiple_of(3) {
                text.push(apart);
            }
            text.push(digit);
        }
        if !part.is_empty() {
            text.push(comma);
            text.push_str(part);
        }
        text
    }

    /// A number with its sign.
    pub(super) fn signed(self, value: f64, decimals: usize) -> String {
        let text = self.number(value, decimals);
        if value > 0.0 { format!("+{text}") } else { text }
    }

    /// A whole number.
    pub(super) fn count(self, value: u64) -> String {
        self.number(value as f64, 0)
    }

    /// A number of three or four digits that count, whatever its size: `0.00052`, `1.234`, `12,345`.
    pub(super) fn short(self, value: f64) -> String {
        match value.abs() {
            0.0 => "0".to_owned(),
            small if small < 1e-3 => {
                let text = format!("{value:.2e}").replace('-', "−");
                if self == Self::Fr { text.replace('.', ",") } else { text }
            }
            size if size < 1.0 => self.number(value, 4),
            size if size < 100.0 => self.number(value, 3),
            size if size < 1000.0 => self.number(value, 1),
            _ => self.number(value, 0),
        }
    }

    /// A share in per cent.
    pub(super) fn percent(self, share: f64, decimals: usize) -> String {
        format!("{}\u{a0}%", self.number(100.0 * share, decimals))
    }

    /// A number of bytes.
    pub(super) fn bytes(self, count: u64) -> String {
        let unit = if self == Self::Fr { "o" } else { "B" };
        let count = count as f64;
        match count {
            size if size >= 1e9 => format!("{}\u{a0}G{unit}", self.number(count / 1e9, 2)),
            size if size >= 1e6 => format!("{}\u{a0}M{unit}", self.number(count / 1e6, 1)),
            _ => format!("{}\u{a0}k{unit}", self.number(count / 1e3, 0)),
        }
    }

    /// A time in seconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates; time is positive")]
    pub(super) fn seconds(self, seconds: f64) -> String {
        let whole = seconds.round() as u64;
        let days = if self == Self::Fr { "j" } else { "d" };
        match (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60) {
            (0, 0, 0, _) => format!("{}\u{a0}s", self.number(seconds, 1)),
            (0, 0, minutes, seconds) => format!("{minutes}\u{a0}min {seconds}\u{a0}s"),
            (0, hours, minutes, _) => format!("{hours}\u{a0}h {minutes}\u{a0}min"),
            (count, hours, ..) => format!("{count}\u{a0}{days} {hours}\u{a0}h"),
        }
    }

    /// An amount of energy in kilowatt-hours, as kWh or Wh.
    pub(super) fn kwh(self, kwh: f64) -> String {
        if kwh >= 1.0 {
            format!("{}\u{a0}kWh", self.number(kwh, 3))
        } else {
            format!("{}\u{a0}Wh", self.short(1e3 * kwh))
        }
    }

    /// A moment as a file has it, `2026-05-01T12:34:56.789Z`, to the second; what is none, as it is.
    pub(super) fn moment(self, text: &str) -> String {
        let shown = |moment: jiff::Timestamp| match self {
            Self::En => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            Self::Fr => moment.strftime("%d/%m/%Y %H:%M:%S UTC").to_string(),
        };
        text.parse().map_or_else(|_| text.to_owned(), shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_each_language_does() {
        for (value, decimals, english, french) in [
            (1_234_567.891, 2, "1,234,567.89", "1\u{202f}234\u{202f}567,89"),
            (-999.5, 1, "−999.5", "−999,5"),
            (-0.0001, 2, "0.00", "0,00"),
            (1000.0, 0, "1,000", "1\u{202f}000"),
        ] {
            assert_eq!(
                (Language::En.number(value, decimals), Language::Fr.number(value, decimals)),
                (english.into(), french.into())
            );
        }
        assert_eq!((Language::En.signed(0.5, 1), Language::En.signed(-0.5, 1)), ("+0.5".to_owned(), "−0.5".to_owned()));
        assert_eq!((Language::En.short(0.000_52), Language::Fr.short(1.5)), ("5.20e−4".to_owned(), "1,500".to_owned()));
        assert_eq!(Language::Fr.bytes(1_500_000), "1,5\u{a0}Mo");
        assert_eq!(Language::En.seconds(100_000.0), "1\u{a0}d 3\u{a0}h");
        assert_eq!(Language::En.moment("2026-05-01T12:34:56.789Z"), "2026-05-01 12:34:56 UTC");
    }

    #[test]
    fn no_word_is_missing_in_either_language() {
        for words in [&ENGLISH, &FRENCH] {
            let words = serde_json::to_value(words).unwrap();
            for (name, word) in words.as_object().unwrap() {
                assert!(word.as_str().is_some_and(|word| !word.trim().is_empty()), "{name}");
            }
        }
    }
}
