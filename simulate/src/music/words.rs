//! The words that names and titles are made of.

pub(super) const FIRST_NAMES: [(&str, &str); 40] = [
    ("Ada", "F"), ("Alma", "F"), ("Anouk", "F"), ("Bao", "M"), ("Björn", "M"), ("Carla", "F"), ("Chidi", "M"), ("Dara", "F"), ("Elif", "F"), ("Emil", "M"),
    ("Farid", "M"), ("Freya", "F"), ("Gael", "M"), ("Hana", "F"), ("Ivo", "M"), ("Jamila", "F"), ("Jens", "M"), ("Kaito", "M"), ("Kira", "F"), ("Lars", "M"),
    ("Leila", "F"), ("Luca", "M"), ("Maja", "F"), ("Mateo", "M"), ("Mina", "F"), ("Nadia", "F"), ("Noor", "F"), ("Oskar", "M"), ("Paula", "F"), ("Quinn", "F"),
    ("Rafael", "M"), ("Rosa", "F"), ("Samir", "M"), ("Sofia", "F"), ("Tariq", "M"), ("Uma", "F"), ("Viktor", "M"), ("Wanda", "F"), ("Yara", "F"), ("Zoé", "F"),
];

pub(super) const LAST_NAMES: [&str; 40] = [
    "Acheampong", "Baumann", "Berger", "Costa", "Dahl", "Diaz", "Eriksen", "Fontaine", "García", "Haddad", "Hansen", "Ito", "Jansen", "Kaya", "Keller", "Kim",
    "Kowalski", "Lang", "Lindqvist", "Marini", "Mbeki", "Meier", "Moreau", "Müller", "Nakamura", "Novak", "O'Brien", "Okafor", "Peeters", "Petrov", "Ricci",
    "Rossi", "Sato", "Silva", "Smith", "Tanaka", "Vogel", "Walker", "Yilmaz", "Zhang",
];

pub(super) const ADJECTIVES: [&str; 40] = [
    "Amber", "Borrowed", "Bright", "Broken", "Cold", "Copper", "Crooked", "Distant", "Electric", "Endless", "Faded", "Foreign", "Gentle", "Golden", "Half",
    "Hidden", "Hollow", "Last", "Lonely", "Lost", "Lucky", "Midnight", "Narrow", "Northern", "Paper", "Patient", "Quiet", "Restless", "Rusty", "Second",
    "Silent", "Slow", "Southern", "Sudden", "Velvet", "Wandering", "Warm", "Wild", "Winter", "Yellow",
];

pub(super) const NOUNS: [&str; 40] = [
    "Anchors", "Answer", "Avenue", "Balcony", "Bridge", "Candle", "Circus", "City", "Compass", "Corner", "Delta", "Engine", "Ferry", "Garden", "Harbour",
    "Horizon", "Island", "Kite", "Ladder", "Lantern", "Letter", "Map", "Mirror", "Mountain", "Ocean", "Orchard", "Parade", "Postcard", "Rain", "River",
    "Satellite", "Season", "Shadow", "Signal", "Station", "Stranger", "Summer", "Tide", "Train", "Window",
];

pub(super) const BANDS: [&str; 20] = [
    "Antennas", "Brothers", "Cartographers", "Club", "Collective", "Divers", "Ensemble", "Explorers", "Foxes", "Gardeners", "Lights", "Machines", "Orchestra",
    "Parrots", "Quartet", "Riders", "Sisters", "Sleepers", "Trio", "Whales",
];

pub(super) const CITIES: [(&str, f64, f64); 24] = [
    ("San Francisco-Oakland-Hayward, CA", 37.77, -122.42), ("New York-Newark-Jersey City, NY-NJ-PA", 40.71, -74.01),
    ("Chicago-Naperville-Elgin, IL-IN-WI", 41.88, -87.63), ("Atlanta-Sandy Springs-Roswell, GA", 33.75, -84.39),
    ("Portland-South Portland, ME", 43.66, -70.26), ("Lansing-East Lansing, MI", 42.73, -84.56), ("Janesville-Beloit, WI", 42.68, -89.02),
    ("Waterloo-Cedar Falls, IA", 42.49, -92.34), ("Tampa-St. Petersburg-Clearwater, FL", 27.95, -82.46), ("Red Bluff, CA", 40.18, -122.24),
    ("Marinette, WI-MI", 45.1, -87.63), ("Detroit-Warren-Dearborn, MI", 42.33, -83.05), ("Houston-The Woodlands-Sugar Land, TX", 29.76, -95.37),
    ("Birmingham-Hoover, AL", 33.52, -86.8), ("Augusta-Richmond County, GA-SC", 33.47, -82.01), ("Sacramento--Roseville--Arden-Arcade, CA", 38.58, -121.49),
    ("Dallas-Fort Worth-Arlington, TX", 32.78, -96.8), ("Phoenix-Mesa-Scottsdale, AZ", 33.45, -112.07), ("Seattle-Tacoma-Bellevue, WA", 47.61, -122.33),
    ("Minneapolis-St. Paul-Bloomington, MN-WI", 44.98, -93.27), ("San Jose-Sunnyvale-Santa Clara, CA", 37.34, -121.89),
    ("Nashville-Davidson--Murfreesboro--Franklin, TN", 36.16, -86.78), ("Eugene, OR", 44.05, -123.09), ("Salt Lake City, UT", 40.76, -111.89),
];

pub(super) const AGENTS: [&str; 6] = [
    "\"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_4) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/36.0.1985.143 Safari/537.36\"",
    "Mozilla/5.0 (Windows NT 6.1; WOW64; rv:31.0) Gecko/20100101 Firefox/31.0",
    "\"Mozilla/5.0 (iPhone; CPU iPhone OS 7_1_2 like Mac OS X) AppleWebKit/537.51.2 (KHTML, like Gecko) Version/7.0 Mobile/11D257 Safari/9537.53\"",
    "\"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Ubuntu Chromium/36.0.1985.125 Safari/537.36\"",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.9; rv:31.0) Gecko/20100101 Firefox/31.0",
    "\"Mozilla/5.0 (iPad; CPU OS 7_1_2 like Mac OS X) AppleWebKit/537.51.2 (KHTML, like Gecko) Version/7.0 Mobile/11D257 Safari/9537.53\"",
];
