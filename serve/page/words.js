// The words of the page, in English and Korean.

const KOREAN = {
  "Speech to text": "음성 받아쓰기",
  "Connecting …": "연결 중 …",
  Ready: "준비됨",
  Listening: "듣는 중",
  "The last words …": "마지막 말을 정리하는 중 …",
  Speak: "말하기",
  Stop: "멈춤",
  Time: "시간",
  Latency: "지연",
  "Real-time factor": "실시간 계수",
  Confidence: "신뢰도",
  Level: "음량",
  Microphone: "마이크",
  "Default microphone": "기본 마이크",
  "API key": "API 키",
  Use: "사용",
  Copy: "복사",
  Copied: "복사됨",
  Clear: "지우기",
  Save: "저장",
  "Press Speak and talk, or drop a recording anywhere on this page.":
    "말하기를 누르고 말하거나, 녹음 파일을 이 페이지에 놓으세요.",
  "Choose a recording or drop one here": "녹음 파일을 고르거나 여기에 놓으세요",
  Cancel: "취소",
  "Nothing leaves this server.": "아무것도 이 서버를 떠나지 않습니다.",
  Model: "모델",
  channel: "채널",
  "channels, mixed": "채널, 섞음",
  "Too loud": "너무 큼",
  "Too quiet": "너무 작음",
  "Click words to correct them.": "글을 눌러 고칠 수 있습니다.",
  "The spectrum of the sound, and the spikes of the network": "소리의 스펙트럼과 신경망의 스파이크",
  Transcript: "받아쓴 글",
};

let language = localStorage.getItem("language") ?? (navigator.language.startsWith("ko") ? "ko" : "en");

// A text in the language of the page.
export function say(text) {
  return language === "ko" ? KOREAN[text] ?? text : text;
}

export function nextLanguage() {
  language = language === "ko" ? "en" : "ko";
  localStorage.setItem("language", language);
  translate();
}

// Every element with data-say, and every label.
export function translate() {
  document.documentElement.lang = language;
  document.title = say("Speech to text");
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of document.querySelectorAll("[data-say-label]")) {
    element.setAttribute("aria-label", say(element.dataset.sayLabel));
  }
}
