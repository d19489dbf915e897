from moonshine_cpp import MoonshineModel
from protocol import serve

model = MoonshineModel()  # base, English
serve(model.transcribe_wav, model.model_dir_path)
