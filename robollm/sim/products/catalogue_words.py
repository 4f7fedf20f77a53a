"""What the shops of the catalogue sell: lines of goods, flavours, sizes, colours of print."""

from __future__ import annotations

from dataclasses import dataclass

from robollm.sim.world import Kind


@dataclass(frozen=True, slots=True)
class Line:
    """A line of goods.

    `variants` name what differs inside a family, each with the pictogram that goes with it;
    `amounts` grow; `density` is of the whole package, kg per m^3.
    """

    name: str
    kinds: tuple[Kind, ...]
    goods: tuple[str, ...]
    variants: tuple[tuple[str, str], ...]
    amounts: tuple[str, ...]
    motifs: tuple[str, ...]
    density: float
    claims: tuple[str, ...]


FLAVOURS = (
    ("Lemon", "citrus"), ("Strawberry", "berry"), ("Cocoa", "cup"), ("Apple", "fruit"),
    ("Mint", "leaf"), ("Honey", "hexagons"), ("Vanilla", "flower"), ("Cherry", "cherry"),
    ("Sea Salt", "waves"), ("Ginger", "bolt"), ("Orange", "citrus"), ("Blueberry", "berry"),
)  # fmt: skip
SCENTS = (
    ("Lavender", "flower"), ("Ocean", "waves"), ("Citrus", "citrus"), ("Pine", "tree"),
    ("Aloe", "leaf"), ("Rose", "flower"), ("Pure", "drop"), ("Sport", "bolt"),
)  # fmt: skip
COLOURS = (
    ("Navy", "star"), ("Olive", "leaf"), ("Black", "bolt"), ("Ivory", "sun"),
    ("Coral", "heart"), ("Sand", "mountain"), ("Grey", "hexagons"), ("Teal", "waves"),
)  # fmt: skip
SIZES = (
    ("XS", "shirt"), ("S", "shirt"), ("M", "shirt"), ("L", "shirt"), ("XL", "shirt"),
    ("XXL", "shirt"),
)  # fmt: skip
TASTES = (
    ("Salmon", "fish"), ("Chicken", "bird"), ("Beef", "bone"), ("Tuna", "fish"),
    ("Rabbit", "paw"), ("Turkey", "bird"),
)  # fmt: skip
TYPES = (
    ("Type A", "gear"), ("Type B", "bolt"), ("Mini", "star"), ("Pro", "sun"),
    ("Plus", "hexagons"), ("Eco", "leaf"),
)  # fmt: skip
VOLUMES = (
    ("Volume 1", "mountain"), ("Volume 2", "star"), ("Volume 3", "sun"), ("Volume 4", "waves"),
    ("Volume 5", "gear"), ("Volume 6", "bolt"),
)  # fmt: skip

RECIPES = (
    ("In Brine", "waves"), ("In Oil", "drop"), ("Chili", "bolt"), ("Garlic", "flower"),
    ("Herbs", "leaf"), ("Smoked", "mountain"),
)  # fmt: skip
GRADES = (
    ("Wholegrain", "wheat"), ("Organic", "leaf"), ("Quick Cook", "bolt"), ("Fine", "star"),
    ("Golden", "sun"), ("Family", "house"),
)  # fmt: skip

FOOD = ("snack", "hot drink", "drink", "tins", "grains", "pet")
"""Lines with a table of nutrients on the back."""
_FOOD = ("No palm oil", "Since 1964", "Vegan", "High fibre", "Gluten free", "New recipe")
_CARE = ("Dermatologically tested", "24 h", "pH 5.5", "No parabens", "Sensitive", "With vitamin E")
_WASH = ("Cuts grease", "Concentrated", "Streak free", "Eco refill", "Kills 99.9 %")
_TECH = ("2 year warranty", "Fast & easy", "USB-C", "Energy A+", "Heavy duty", "Easy to fit")
_GRAMS = ("90 g", "150 g", "250 g", "400 g")
_MILLILITRES = ("100 ml", "250 ml", "500 ml", "750 ml")
_PIECES = ("1 pc", "2 pcs", "4 pcs", "6 pcs")

LINES = (
    Line("snack", ("box", "pouch"),
         ("Oat Cookies", "Corn Crisps", "Trail Mix", "Rice Crackers", "Granola Bites",
          "Fruit Bars", "Crunchy Muesli", "Butter Biscuits"),
         FLAVOURS, _GRAMS, ("cookie", "wheat", "fruit", "sun"), 330.0, _FOOD),
    Line("hot drink", ("box", "can", "pouch"),
         ("Green Tea", "Ground Coffee", "Cocoa Drink", "Herbal Infusion", "Black Tea"),
         FLAVOURS, ("50 g", "100 g", "200 g", "500 g"), ("cup", "leaf", "mountain", "sun"),
         380.0, _FOOD),
    Line("drink", ("bottle",),
         ("Fruit Syrup", "Oat Drink", "Iced Tea", "Smoothie", "Tonic"),
         FLAVOURS, ("200 ml", "330 ml", "500 ml", "1 L"), ("splash", "fruit", "drop", "citrus"),
         950.0, _FOOD),
    Line("tins", ("can",),
         ("Tomato Soup", "Chick Peas", "Lentil Stew", "Sweet Corn", "Tuna Chunks", "Pea Soup"),
         RECIPES, ("170 g", "200 g", "400 g", "800 g"), ("fruit", "wheat", "fish", "flower"),
         1050.0, _FOOD),
    Line("grains", ("pouch", "box", "carton"),
         ("Basmati Rice", "Couscous", "Bread Flour", "Red Lentils", "Penne", "Pancake Mix"),
         GRADES, ("250 g", "500 g", "750 g", "1 kg"), ("wheat", "sun", "mountain", "house"),
         750.0, _FOOD),
    Line("pet", ("pouch", "can", "polybag", "box", "carton"),
         ("Cat Dinner", "Dog Chews", "Kitten Menu", "Puppy Snacks", "Dental Sticks"),
         TASTES, ("85 g", "170 g", "400 g", "1 kg"), ("paw", "bone", "fish", "bird"),
         500.0, ("Grain free", "For adults", "Vet approved", "High protein", "7+ years")),
    Line("bath", ("bottle", "tube"),
         ("Shampoo", "Shower Gel", "Body Milk", "Hand Cream", "Sun Lotion", "Face Wash"),
         SCENTS, _MILLILITRES, ("drop", "flower", "waves", "splash"), 900.0, _CARE),
    Line("beauty", ("box", "blister", "pouch"),
         ("Soap Bar", "Face Mask", "Bath Salts", "Lip Balm", "Hair Clips", "Cotton Pads"),
         SCENTS, _PIECES, ("flower", "heart", "leaf", "drop"), 420.0, _CARE),
    Line("cleaner", ("bottle",),
         ("Dish Soap", "Glass Cleaner", "Descaler", "Floor Care", "Oven Spray", "Fabric Care"),
         SCENTS, _MILLILITRES, ("splash", "drop", "star", "hexagons"), 980.0, _WASH),
    Line("laundry", ("box", "carton", "pouch"),
         ("Dish Tabs", "Washing Powder", "Refill Gel", "Stain Remover", "Softener Sheets"),
         SCENTS, ("20 pcs", "30 pcs", "45 pcs", "60 pcs"), ("splash", "shirt", "waves", "star"),
         620.0, _WASH),
    Line("repair", ("tube",),
         ("Wood Glue", "Wall Filler", "Silicone", "Shoe Cream", "Grease"),
         TYPES, ("50 ml", "80 ml", "120 ml"), ("house", "gear", "hexagons", "bolt"),
         1100.0, _TECH),
    Line("textile", ("polybag", "clear_bag", "box"),
         ("Crew T-Shirt", "Sport Socks", "Fleece Scarf", "Cotton Briefs", "Rain Poncho",
          "Bath Towel", "Knit Beanie"),
         SIZES, ("1 pc", "2 pcs", "3 pcs", "6 pcs"), ("shirt", "waves", "mountain", "star"),
         210.0, ("100 % cotton", "Soft touch", "Quick dry", "Machine wash 40")),
    Line("home", ("carton", "polybag", "box"),
         ("Storage Jars", "Desk Lamp", "Shower Curtain", "Cushion Cover", "Wall Hooks",
          "Table Runner", "Picture Frame"),
         COLOURS, _PIECES, ("house", "sun", "flower", "tree"),
         230.0, ("Easy assembly", "Tools included", "BPA free", "Indoor use")),
    Line("tech", ("box", "blister", "carton", "polybag"),
         ("Phone Charger", "LED Bulb", "HDMI Cable", "Earbuds", "Smart Plug", "Power Bank",
          "Wireless Mouse"),
         TYPES, ("1 pc", "2 pcs", "3 pcs", "5 pcs"), ("bolt", "bulb", "hexagons", "waves"),
         420.0, _TECH),
    Line("hardware", ("clear_bag", "blister", "box", "carton"),
         ("Wood Screws", "Wall Plugs", "Cable Ties", "Hinge Set", "Door Stops", "Felt Pads"),
         (("M3", "gear"), ("M4", "gear"), ("M5", "gear"), ("M6", "gear"), ("Zinc", "bolt"),
          ("Brass", "star")),
         ("12 pcs", "24 pcs", "50 pcs", "100 pcs"), ("gear", "bolt", "house", "hexagons"),
         700.0, _TECH),
    Line("toy", ("box", "blister", "clear_bag", "carton", "polybag"),
         ("Race Cars", "Puzzle", "Building Blocks", "Bath Fish", "Play Rings", "Chalk",
          "Modelling Clay"),
         COLOURS, ("1 pc", "12 pcs", "24 pcs", "48 pcs"), ("car", "star", "fish", "rocket"),
         300.0, ("Ages 3+", "Ages 6+", "No batteries", "Collect them all", "Non toxic")),
    Line("book", ("book",),
         ("The Quiet Harbour", "Garden Year", "Maths Made Clear", "Ten Small Walks",
          "Night Trains", "A History of Bread", "Bird Atlas", "First Chemistry"),
         VOLUMES, ("160 pages", "240 pages", "320 pages"),
         ("mountain", "tree", "bird", "rocket", "house", "waves"),
         640.0, ("Revised edition", "Bestseller", "Illustrated", "With index")),
)  # fmt: skip

# Ground, second colour, accent, ink, light: few, and shared by all brands, because on a shelf too
# colour says little about who made a thing.
PALETTES: dict[str, tuple[str, str, str, str, str]] = {
    "white_blue": ("#f2f2ee", "#28559c", "#e0a020", "#1c2740", "#ffffff"),
    "white_red": ("#f3f1ed", "#b8322a", "#2e2e30", "#2a2222", "#ffffff"),
    "white_green": ("#f1f3ec", "#3c7f48", "#d8b13a", "#1f3322", "#ffffff"),
    "kraft": ("#b98d5e", "#8a6138", "#3a2a1c", "#2c2016", "#e8d6b8"),
    "navy": ("#25406e", "#e8e4d8", "#d9a32c", "#101b30", "#f6f3ea"),
    "red": ("#b5342d", "#f4ecd9", "#f0bf3a", "#3b1210", "#fff8ea"),
    "green": ("#47804a", "#f1ecd6", "#e8c548", "#15301c", "#fbf7e6"),
    "yellow": ("#e8c24a", "#b23a2c", "#2c4f86", "#33260e", "#fff9e6"),
    "grey": ("#c9ccce", "#4b5258", "#d2682d", "#23272b", "#f7f7f5"),
}
# How often brands choose them.
PALETTE_DECK = (
    "white_blue", "white_blue", "white_red", "white_red", "white_green", "white_green", "navy",
    "red", "green", "yellow", "grey", "kraft",
)  # fmt: skip
MAILERS = (
    "white_blue", "white_red", "white_green", "white_blue", "grey", "grey", "kraft", "navy",
)  # fmt: skip
"""How often polybags have them."""
INKS = ("#2d4f8f", "#a8352c", "#3d7a46", "#c98a1e", "#6a3f80", "#2f8187", "#b25a2a", "#4d4a48")
"""Accents of variants: a small spot of print, never an area."""

ONSETS = "b br c d dr f g h j k kl l m n p pl r s st t tr v w z".split()
VOWELS = "a e i o u a e o ia ea".split()
CODAS = "l n r m s x nt rk lt ss th".split() + [""] * 6
ENDINGS = ("", "", "", " & Co", " Home", "well", "ly", "ora", "field", "s")
MARKS = ("disc", "ring", "square", "triangle", "bars", "diamond", "arc", "dots", "none")
CITIES = ("Halden", "Port Ellis", "Brevik", "Lindau", "Marston", "Oakhurst", "Verano", "Kells")
