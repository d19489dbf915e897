"""The corpora that lhotse reads, and what is known about them; hours of speech as published.

`?` for a licence means: see its page. An archive without a checksum has none that was published.
"""

from __future__ import annotations

from data_prep.corpus import Corpus
from data_prep.download import Archive
from data_prep.lhotse_bridge import corpus

_OPENSLR = "https://www.openslr.org/resources"
_LIBRI_PARTS = {
    # part: size and sha256 of LibriSpeech, size and sha256 of LibriTTS
    "dev-clean": (
        (337_926_286, "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3"),
        (1_291_469_655, "da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a"),
    ),
    "dev-other": (
        (314_305_928, "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365"),
        (924_804_676, "d413eda26f3a152ac7c9cf3658ef85504dfb1b625296e5fa83727f5186cca79c"),
    ),
    "test-clean": (
        (346_663_984, "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23"),
        (1_230_670_113, "234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5"),
    ),
    "test-other": (
        (328_757_843, "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29"),
        (964_502_297, "33a5342094f3bba7ccc2e0500b9e72d558f72eb99328ac8debe1d9080402f10d"),
    ),
    "train-clean-100": (
        (6_387_309_499, "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2"),
        (7_723_686_890, "c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b"),
    ),
    "train-clean-360": (
        (23_049_477_885, "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf"),
        (27_504_073_644, "ce7cff44dcac46009d18379f37ef36551123a1dc4e5c8e4eb73ae57260de4886"),
    ),
    "train-other-500": (
        (30_593_501_606, "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2"),
        (44_565_031_479, "e35f7e34deeb2e2bdfe4403d88c8fdd5fbf64865cae41f027a185a6965f0a5df"),
    ),
}
_LIBRISPEECH, _LIBRITTS = (
    tuple(
        Archive(f"{_OPENSLR}/{number}/{part}.tar.gz", facts[i][0], f"sha256:{facts[i][1]}", part)
        for part, facts in _LIBRI_PARTS.items()
    )
    for i, number in enumerate((12, 60))
)
_MINI_LIBRISPEECH = (
    Archive(
        f"{_OPENSLR}/31/dev-clean-2.tar.gz",
        126_046_265,
        "md5:6d7ab67ac6a1d2c993d050e16d61080d",
        "dev-clean-2",
    ),
    Archive(
        f"{_OPENSLR}/31/train-clean-5.tar.gz",
        332_954_390,
        "md5:5df7d4e78065366204ca6845bb08f490",
        "train-clean-5",
    ),
)
_SPEECH_COMMANDS = (
    Archive(
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        2_428_923_189,
        "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        folder="speech_commands_v0.02",
    ),
    Archive(
        "http://download.tensorflow.org/data/speech_commands_test_set_v0.02.tar.gz",
        112_563_277,
        "sha256:cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
        folder="speech_commands_test_set_v0.02",
    ),
)
_TEDLIUM3 = Archive(
    f"{_OPENSLR}/51/TEDLIUM_release-3.tgz",
    54_320_173_876,
    "sha256:ad1e454d14d1ad550bc2564c462d87c7a7ec83d4dc2b9210f22ab4973b9eccdb",
)
_TEDLIUM2 = Archive(
    f"{_OPENSLR}/19/TEDLIUM_release2.tar.gz",
    36_791_529_840,
    "sha256:93281b5fcaaae5c88671c9d000b443cb3c7ea3499ad12010b3934ca41a7b9c58",
)
_VCTK = Archive(
    "https://datashare.is.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
    11_747_302_977,
    "sha256:f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
)
_YESNO = Archive(
    f"{_OPENSLR}/1/waves_yesno.tar.gz",
    4_703_754,
    "sha256:c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73",
)


def _ldc(*numbers: str) -> str:
    pages = ", ".join(f"https://catalog.ldc.upenn.edu/{number}" for number in numbers)
    return f"buy it from the LDC ({pages})"


def _hugging_face(name: str) -> str:
    return f"accept its terms and download it from https://huggingface.co/datasets/{name}"


# fmt: off
CORPORA: tuple[Corpus, ...] = (
    # The ones most used, with checked downloads.
    corpus("librispeech", "LibriSpeech: read books", "CC BY 4.0", "en", 982,
           parts=tuple(_LIBRI_PARTS), archives=_LIBRISPEECH, inside="LibriSpeech",
           page="https://www.openslr.org/12/"),
    corpus("mini-librispeech", "five hours of LibriSpeech, and two to test", "CC BY 4.0", "en", 7.4,
           recipe="librispeech", parts=("train-clean-5", "dev-clean-2"), archives=_MINI_LIBRISPEECH,
           inside="LibriSpeech", page="https://www.openslr.org/31/"),
    corpus("libritts", "LibriTTS: read books, cased and punctuated", "CC BY 4.0", "en", 585,
           parts=tuple(_LIBRI_PARTS), archives=_LIBRITTS, inside="LibriTTS",
           page="https://www.openslr.org/60/"),
    corpus("tedlium3", "TED-LIUM 3: talks", "CC BY-NC-ND 3.0", "en", 452, recipe="tedlium",
           options={"normalize_text": "kaldi"}, archives=(_TEDLIUM3,), inside="TEDLIUM_release-3", page="https://www.openslr.org/51/"),
    corpus("tedlium2", "TED-LIUM 2: talks", "CC BY-NC-ND 3.0", "en", 207,
           options={"normalize_text": "kaldi"}, archives=(_TEDLIUM2,), inside="TEDLIUM_release2", page="https://www.openslr.org/19/"),
    corpus("vctk", "VCTK 0.92: 110 speakers of many accents", "CC BY 4.0", "en", 44,
           options={"use_edinburgh_vctk_url": True}, archives=(_VCTK,),
           page="https://datashare.ed.ac.uk/handle/10283/3443"),
    corpus("speech-commands", "Speech Commands 0.02: single words", "CC BY 4.0", "en", 29,
           recipe="speechcommands", options={"speechcommands_version": "2"},
           archives=_SPEECH_COMMANDS, page="https://arxiv.org/abs/1804.03209"),
    corpus("yesno", "yes and no, eight times in a row, by one speaker", "?", "he", 0.1,
           archives=(_YESNO,), inside="waves_yesno", page="https://www.openslr.org/1/"),
    # English, downloaded by lhotse.
    corpus("ami", "AMI: meetings, close microphones", "CC BY 4.0", "en", 100,
           page="https://groups.inf.ed.ac.uk/ami/corpus/"),
    corpus("atcosim", "ATCOSIM: air-traffic control, simulated", "?", "en", 10,
           page="https://www.spsc.tugraz.at/databases-and-tools/"),
    corpus("audio-mnist", "AudioMNIST: digits by 60 speakers", "MIT", "en", 9.5,
           page="https://github.com/soerenab/AudioMNIST"),
    corpus("chime6", "CHiME-6: dinner parties", "CC BY-SA 4.0", "en", 50,
           parts=None, page="https://openslr.org/150/"),
    corpus("cmu-arctic", "CMU Arctic: phonetically balanced sentences", "free", "en", 20,
           page="http://festvox.org/cmu_arctic/"),
    corpus("daily-talk", "DailyTalk: acted dialogues", "CC BY-SA 4.0", "en", 20,
           page="https://github.com/keonlee9420/DailyTalk"),
    corpus("dipco", "DiPCo: dinner parties", "CDLA-Permissive", "en", 5.3,
           page="https://zenodo.org/records/8122551"),
    corpus("earnings21", "Earnings-21: company calls", "CC BY-SA 4.0", "en", 39,
           page="https://github.com/revdotcom/speech-datasets"),
    corpus("earnings22", "Earnings-22: company calls, many accents", "CC BY-SA 4.0", "en", 119,
           page="https://github.com/revdotcom/speech-datasets"),
    corpus("ears", "EARS: expressive speech without echo", "CC BY-NC 4.0", "en", 100,
           page="https://github.com/facebookresearch/ears_dataset"),
    corpus("edacc", "EdAcc: calls in many accents of English", "CC BY-SA 4.0", "en", 40,
           page="https://groups.inf.ed.ac.uk/edacc/"),
    corpus("grid", "GRID: sentences like 'put red at G9 now'", "CC BY 4.0", "en", 28,
           page="https://zenodo.org/records/3625687"),
    corpus("hifitts", "Hi-Fi TTS: ten readers of books", "CC BY 4.0", "en", 292, gigabytes=41,
           page="https://www.openslr.org/109/"),
    corpus("icsi", "ICSI: meetings, close microphones", "CC BY 4.0", "en", 72,
           page="https://groups.inf.ed.ac.uk/ami/icsi/"),
    corpus("medical", "interviews of patients, acted", "?", "en", None,
           page="https://www.nature.com/articles/s41597-022-01423-1"),
    corpus("sbcsae", "Santa Barbara Corpus: natural conversations", "CC BY-ND 3.0 US", "en", 20,
           page="https://www.linguistics.ucsb.edu/research/santa-barbara-corpus"),
    corpus("this-american-life", "This American Life: a radio programme", "?", "en", 640,
           page="https://arxiv.org/abs/2005.08072"),
    # Other languages, downloaded by lhotse.
    corpus("aidatatang-200zh", "read Mandarin, by telephone", "CC BY-NC-ND 4.0", "zh", 200,
           page="https://www.openslr.org/62/"),
    corpus("aishell", "AISHELL-1: read Mandarin", "Apache-2.0", "zh", 178, gigabytes=15.6,
           page="https://www.openslr.org/33/"),
    corpus("aishell3", "AISHELL-3: read Mandarin, 218 speakers", "Apache-2.0", "zh", 85,
           gigabytes=19, page="https://www.openslr.org/93/"),
    corpus("aishell4", "AISHELL-4: meetings", "CC BY-SA 4.0", "zh", 120,
           page="https://www.openslr.org/111/"),
    corpus("ali-meeting", "AliMeeting: meetings", "CC BY-SA 4.0", "zh", 120,
           page="https://www.openslr.org/119/"),
    corpus("baker-zh", "Baker: one female reader of Mandarin", "non-commercial", "zh", 12,
           page="https://www.data-baker.com/open_source.html"),
    corpus("cmu-indic", "CMU Indic: 13 readers", "free", "bn gu hi kn mr pa ta te", None,
           page="http://festvox.org/h2r_indic/"),
    corpus("fleurs", "FLEURS: the same sentences in 102 languages", "CC BY 4.0", "multi", 1400,
           parts=None, parts_argument="languages", page="https://huggingface.co/datasets/google/fleurs"),
    corpus("magicdata", "MAGICDATA: read Mandarin", "CC BY-NC-ND 4.0", "zh", 755,
           page="https://www.openslr.org/68/"),
    corpus("mdcc", "MDCC: Cantonese audio books", "?", "yue", 73.6,
           parts=None, page="https://arxiv.org/abs/2201.02419"),
    corpus("mtedx", "Multilingual TEDx: talks", "CC BY-NC-ND 4.0", "ar de el es fr it pt ru", 765,
           parts=None, parts_argument="languages", page="https://www.openslr.org/100/"),
    corpus("primewords", "read Mandarin, by telephone", "CC BY-NC-ND 4.0", "zh", 100,
           page="https://www.openslr.org/47/"),
    corpus("reazonspeech", "ReazonSpeech: Japanese television", "?", "ja", 35000,
           parts=None, page="https://huggingface.co/datasets/reazon-research/reazonspeech"),
    corpus("stcmds", "ST-CMDS: short Mandarin utterances", "CC BY-NC-ND 4.0", "zh", 100,
           gigabytes=8.2, page="https://www.openslr.org/38/"),
    corpus("thchs-30", "THCHS-30: read Mandarin", "Apache-2.0", "zh", 34, gigabytes=6.4,
           page="https://www.openslr.org/18/"),
    corpus("uwb-atcc", "UWB-ATCC: air-traffic control", "?", "en cs", 20,
           page="http://hdl.handle.net/11858/00-097C-0000-0001-CCA1-0"),
    corpus("voxpopuli", "VoxPopuli: speeches in the European Parliament", "CC0 1.0", "en", 543,
           page="https://github.com/facebookresearch/voxpopuli"),
    corpus("xbmu-amdo31", "XBMU-AMDO31: Amdo Tibetan", "CC BY-SA 4.0", "bo", 31,
           page="https://www.openslr.org/133/"),
    # To be fetched by people: terms to accept, forms to sign, data to buy.
    corpus("commonvoice", "Common Voice: sentences read by volunteers", "CC0 1.0", "multi", None,
           parts=None, parts_argument="languages", page="https://commonvoice.mozilla.org/datasets",
           get="accept the terms on https://commonvoice.mozilla.org/datasets, download a language "
               "and unpack it: the folder is the one that holds its folder, such as en"),
    corpus("gigaspeech", "GigaSpeech: books, podcasts, videos", "non-commercial", "en", 10000,
           parts=None, get="fill in the form on https://github.com/SpeechColab/GigaSpeech",
           page="https://github.com/SpeechColab/GigaSpeech"),
    corpus("gigaspeech2", "GigaSpeech 2: videos", "non-commercial", "id th vi", 30000,
           parts=None, parts_argument="languages", get=_hugging_face("speechcolab/gigaspeech2")),
    corpus("peoples-speech", "The People's Speech", "CC BY 4.0, CC BY-SA 4.0", "en", 30000,
           get=_hugging_face("MLCommons/peoples_speech")),
    corpus("mls", "Multilingual LibriSpeech: read books", "CC BY 4.0", "de en es fr it nl pl pt",
           50500, get="download it from https://www.openslr.org/94/"),
    corpus("spgispeech", "SPGISpeech: company calls", "non-commercial", "en", 5000,
           get="register on https://datasets.kensho.com/datasets/spgispeech"),
    corpus("nsc", "National Speech Corpus of Singapore", "Singapore Open Data", "en", 10000,
           get="ask for it on https://www.imda.gov.sg/nationalspeechcorpus"),
    corpus("l2-arctic", "L2-ARCTIC: English by learners", "CC BY-NC 4.0", "en", 27,
           get="ask for it on https://psi.engr.tamu.edu/l2-arctic-corpus/"),
    corpus("must-c", "MuST-C: TED talks", "CC BY-NC-ND 4.0", "en", None, options={"tgt_lang": "de"},
           get="download it from https://mt.fbk.eu/must-c/"),
    corpus("iwslt22-ta", "IWSLT 2022: Tunisian Arabic, by telephone", "LDC", "ar", 160,
           get=_ldc("LDC2022E01"), folders=("the unpacked corpus", "the splits")),
    corpus("ksponspeech", "KsponSpeech: spontaneous Korean", "AI Hub terms", "ko", 969,
           parts=("train", "dev", "eval_clean", "eval_other"),
           get="ask for it on https://aihub.or.kr (dataset 123)"),
    corpus("csj", "Corpus of Spontaneous Japanese", "NINJAL", "ja", 661,
           get="buy it from https://clrd.ninjal.ac.jp/csj/en/"),
    corpus("kespeech", "KeSpeech: Mandarin and its dialects", "non-commercial", "zh", 1542,
           parts=None, get="ask for it on https://github.com/KeSpeech/KeSpeech"),
    corpus("aishell2", "AISHELL-2: read Mandarin", "non-commercial", "zh", 1000,
           get="ask for it on https://www.aishelltech.com/aishell_2"),
    corpus("wenet-speech", "WenetSpeech: Mandarin videos and podcasts", "non-commercial", "zh",
           10005, parts=None, get="ask for it on https://wenet.org.cn/WenetSpeech/"),
    corpus("wenetspeech4tts", "WenetSpeech4TTS", "non-commercial", "zh", 12800,
           parts=None, get=_hugging_face("Wenetspeech4TTS/WenetSpeech4TTS")),
    corpus("speechio", "SpeechIO: Mandarin test sets", "?", "zh", None,
           get="download it from https://github.com/SpeechColab/Leaderboard"),
    corpus("tal-asr", "TAL: Mandarin lessons", "?", "zh", 100,
           get="ask for it on https://ai.100tal.com/dataset"),
    corpus("tal-csasr", "TAL: Mandarin and English mixed", "?", "zh en", 587,
           get="ask for it on https://ai.100tal.com/dataset"),
    corpus("icmcasr", "ICMC-ASR: Mandarin in cars", "non-commercial", "zh", None,
           get="register on https://icmcasr.org"),
    corpus("cdsd", "CDSD: Mandarin by speakers with dysarthria", "?", "zh", 34,
           get="ask its authors (https://arxiv.org/abs/2310.15930)"),
    corpus("bengaliai-speech", "Bengali.AI Speech", "?", "bn", 1200,
           get="kaggle competitions download -c bengaliai-speech"),
    corpus("mgb2", "MGB-2: Arabic television", "MGB terms", "ar", 1200,
           get="sign the licence on https://arabicspeech.org/mgb2/"),
    corpus("radio", "radio of all countries", "non-commercial", "multi", 4000,
           get="write to the address in help(lhotse.recipes.radio)"),
    corpus("switchboard", "Switchboard: telephone conversations", "LDC", "en", 260,
           get=_ldc("LDC97S62"), folders=("the recordings", "the transcripts")),
    corpus("fisher-english", "Fisher: telephone conversations", "LDC", "en", 1960,
           get=_ldc("LDC2004S13", "LDC2004T19", "LDC2005S13", "LDC2005T19")),
    corpus("fisher-spanish", "Fisher: telephone conversations", "LDC", "es", 163,
           get=_ldc("LDC2010S01", "LDC2010T04"), folders=("the recordings", "the transcripts")),
    corpus("callhome-english", "CALLHOME: calls home", "LDC", "en", 20,
           get=_ldc("LDC97S42", "LDC97T14"), options={"rttm_dir": None},
           folders=("the recordings", "the transcripts")),
    corpus("callhome-egyptian", "CALLHOME: calls home", "LDC", "ar", 20,
           get=_ldc("LDC97S45", "LDC97T19"), folders=("the recordings", "the transcripts")),
    corpus("eval2000", "HUB5 2000: a test of telephone conversations", "LDC", "en", 11,
           get=_ldc("LDC2002S09", "LDC2002T43")),
    corpus("broadcast-news", "HUB4 1997: television and radio news", "LDC", "en", 97,
           get=_ldc("LDC98S71", "LDC98T28"), folders=("the recordings", "the transcripts")),
    corpus("gale-arabic", "GALE: broadcast conversations", "LDC", "ar", None,
           get=_ldc("LDC2013S02", "LDC2013T04"), folders=("the recordings", "the transcripts")),
    corpus("gale-mandarin", "GALE: broadcast conversations", "LDC", "zh", None,
           get=_ldc("LDC2013S08", "LDC2013T20"), folders=("the recordings", "the transcripts")),
    corpus("aspire", "ASpIRE: telephone speech in reverberant rooms", "LDC", "en", None,
           get=_ldc("LDC2017S21")),
    corpus("cmu-kids", "CMU Kids: sentences read by children", "LDC", "en", 9,
           get=_ldc("LDC97S63")),
    corpus("cslu-kids", "CSLU Kids: children", "LDC", "en", None, get=_ldc("LDC2007S18")),
    corpus("heroico", "Heroico: Mexican Spanish, read and spontaneous", "LDC", "es", 13,
           get=_ldc("LDC2006S37"), folders=("the recordings", "the transcripts")),
)
# fmt: on
