"""Lists of words for the study of gender in a table in small letters."""


def pairs(text):
    """Pairs of words, from "woman man,girl boy"."""
    return [tuple(pair.split()) for pair in text.split(",")]


def listed(text):
    """Words, from a text with spaces between them."""
    return text.split()


PAIRS = pairs(
    "woman man,girl boy,she he,mother father,daughter son,gal guy,female male,her his,"
    "herself himself,mary john"
)
EQUAL = pairs(
    "woman man,girl boy,she he,mother father,daughter son,her his,herself himself,female male,"
    "women men,girls boys,mothers fathers,daughters sons,sister brother,sisters brothers,"
    "wife husband,wives husbands,aunt uncle,niece nephew,grandmother grandfather,"
    "granddaughter grandson,mom dad,queen king,princess prince,lady gentleman,ladies gentlemen,"
    "spokeswoman spokesman,congresswoman congressman,businesswoman businessman,nun monk,"
    "convent monastery,females males,gal guy,sisterhood brotherhood,mare stallion,"
    "motherhood fatherhood"
)
# Words that rightly have a gender, beside those above: a linear classifier learns the rest of them.
SPECIFIC = listed(
    "actress actresses aunts bachelor bachelors ballerina barmaid baroness beard boyfriend boyfriends "
    "boyhood bride brides bridegroom brothers chairman chairwoman countess cowboy cowboys cowgirl dad "
    "dads daddy daughters duchess duke estrogen fatherly feminine feminism fiance fiancee fireman "
    "fraternal fraternity gals gentleman girlfriend girlfriends girlhood granddaughters grandfathers "
    "grandma grandmothers grandpa grandsons groom guys handyman hen heroine heiress him hers horsemen "
    "housewife housewives hubby kings lad lads lass lesbian lesbians macho maid maiden maids maternal "
    "maternity matriarch menopause midwife mistress mommy mum mums mustache nephews nieces nuns "
    "obstetrics ovarian paternal paternity patriarch penis policeman policewoman pregnancy pregnant "
    "princes princesses prostate queens salesman schoolboy schoolgirl sir sisters sorority sperm "
    "spokesmen stepdaughter stepfather stepmother stepson sons statesman strongman suitor testosterone "
    "uncles uterus vagina waitress waitresses widow widower widows witch womb"
)
JOBS = listed(
    "accountant acquaintance administrator adviser agent ambassador analyst anthropologist "
    "archaeologist architect artist assassin astronaut astronomer attorney author baker banker barber "
    "bartender biologist bishop bookkeeper boss boxer broadcaster broker butcher captain caretaker "
    "carpenter cartoonist cellist chef chemist choreographer cleaner clerk coach collector columnist "
    "comedian commander composer conductor consultant cook counselor critic curator dancer dean dentist "
    "deputy dermatologist designer detective diplomat director doctor drummer economist editor educator "
    "electrician employee engineer entertainer entrepreneur environmentalist farmer firefighter "
    "fisherman florist footballer gangster gardener geologist goalkeeper guitarist hairdresser "
    "headmaster historian homemaker housekeeper illustrator inspector instructor inventor investigator "
    "janitor jeweler journalist judge laborer landlord lawmaker lawyer lecturer legislator librarian "
    "lieutenant lyricist maestro magician magistrate manager mathematician mechanic mediator minister "
    "missionary musician nanny naturalist negotiator neurologist neurosurgeon novelist nurse "
    "nutritionist officer organist painter paralegal pastor pathologist pediatrician performer "
    "pharmacist philosopher photographer physician physicist pianist pilot planner plumber poet "
    "politician preacher president principal prisoner professor programmer promoter prosecutor "
    "psychiatrist psychologist publicist ranger realtor receptionist reporter researcher sailor scholar "
    "scientist sculptor secretary senator sergeant servant sheriff singer skipper socialite sociologist "
    "soldier solicitor stylist superintendent surgeon surveyor swimmer tailor teacher technician trader "
    "translator treasurer trooper trumpeter tutor tycoon undersecretary vocalist warden warrior welder "
    "worker wrestler writer"
)
# Pairs of the paper's table of indirect bias.
INDIRECT = {
    "softball": listed("pitcher bookkeeper receptionist registered_nurse homemaker waitress"),
    "football": listed("footballer businessman pundit maestro cleric"),
}
# Sets of the association test: names of the sexes, and the targets of two published tests.
MALE, FEMALE = (
    listed("male man boy brother he him his son"),
    listed("female woman girl sister she her hers daughter"),
)
TARGETS = {
    "career and family": (
        listed("executive management professional corporation salary office business career"),
        listed("home parents children family cousins marriage wedding relatives"),
    ),
    "mathematics and arts": (
        listed("math algebra geometry calculus equations computation numbers addition"),
        listed("poetry art dance literature novel symphony drama sculpture"),
    ),
}
